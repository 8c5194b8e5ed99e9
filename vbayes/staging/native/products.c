/* Products of matrices, for processors that BLAS does not know: MKL leaves half of what AMD's can do unused, and more where a matrix is narrow.

   C is made in strips of two registers' columns. The strip of B is packed, so that it stays in the nearest cache, and a dozen rows of A run over it, with their part of C in registers (Goto &
   van de Geijn 2008, Anatomy of high-performance matrix multiplication). Each element is one thread's alone, so that the sums are the same for any number of threads.
   The file includes itself, once for floats and once for doubles. */
#ifndef T
#include "runtime.h"

#if defined(__AVX512F__)
#define BYTES 64  /* of a register */
#define ROWS 12   /* of A at a time; two registers each are as many as there are, but for those that they are made from */
#else
#define BYTES 32
#define ROWS 6
#endif
#define DEEP 384  /* rows of B that are packed at a time */
#define UNROLLED _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

#define T float
#define NAME(name) s##name
#define INTEGER int32_t
#include "products.c"
#undef T
#undef NAME
#undef INTEGER
#define T double
#define NAME(name) d##name
#define INTEGER int64_t
#include "products.c"

#else
#define W (long)(BYTES / sizeof(T))
typedef T NAME(vector) __attribute__((vector_size(BYTES)));
typedef T NAME(anywhere) __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
typedef INTEGER NAME(order) __attribute__((vector_size(BYTES)));

typedef struct { long m, n, k, ra, ca, rb, cb, blocks; const T *A, *B; T* C; } NAME(matrices);

/* So many columns of B, with its strides, as rows of so many registers. What a register has beyond the last column is read, or left as it was, and nothing is made of it. */
INLINE void NAME(pack)(T* to, const int registers, long k, long columns, const T* b, long rb, long cb) {
  for (int v = 0; v < registers; v++, to += W, b += W * cb, columns -= W) {
    const long n = columns < W ? columns : W;
    long l = 0;
    if (cb == 1)
      for (const long safe = k - (W - n + rb - 1) / rb; l < safe; l++) *(NAME(vector)*)(to + l * registers * W) = *(const NAME(anywhere)*)(b + l * rb);
    if (rb == 1) {  /* W rows turned into W columns, by halves: what a pack of cards is after as many perfect shuffles */
      NAME(order) low, high;
      for (int i = 0; i < W; i++) { low[i] = i / 2 + i % 2 * W; high[i] = low[i] + W / 2; }
      for (; l + W <= k; l += W) {
        NAME(vector) x[W], y[W];
        UNROLLED for (int i = 0; i < W; i++) x[i] = *(const NAME(anywhere)*)(b + (i < n ? i : 0) * cb + l);
        UNROLLED for (int half = 1; half < W; half *= 2) {
          UNROLLED for (int i = 0; i < W; i++) y[i] = __builtin_shuffle(x[i / 2], x[i / 2 + W / 2], i % 2 ? high : low);
          UNROLLED for (int i = 0; i < W; i++) x[i] = y[i];
        }
        UNROLLED for (int i = 0; i < W; i++) *(NAME(vector)*)(to + (l + i) * registers * W) = x[i];
      }
    }
    for (; l < k; l++)
      for (long j = 0; j < n; j++) to[l * registers * W + j] = b[l * rb + j * cb];
  }
}

/* A few rows of a strip of C, or what is added to them. */
INLINE void NAME(tile)(const int rows, const int registers, long k, long columns, const T* a, long ra, long ca, const T* b, T* c, long rc, int added) {
  NAME(vector) sum[ROWS][2] = {0};
  for (long l = 0; l < k; l++)
    UNROLLED for (int i = 0; i < rows; i++)
      UNROLLED for (int v = 0; v < registers; v++) sum[i][v] += a[i * ra + l * ca] * *(const NAME(vector)*)(b + (l * registers + v) * W);
  UNROLLED for (int i = 0; i < rows; i++)
    UNROLLED for (int v = 0; v < registers; v++) {
      const long n = columns - v * W;
      T* to = c + i * rc + v * W;
      if (n >= W) {
        if (added) sum[i][v] += *(NAME(anywhere)*)to;
        *(NAME(anywhere)*)to = sum[i][v];
      } else {
        NAME(vector) part = {0};
        if (added) memcpy(&part, to, n * sizeof(T));
        part += sum[i][v];
        memcpy(to, &part, n * sizeof(T));
      }
    }
}

/* Some rows of a strip of C. */
INLINE void NAME(strip)(const NAME(matrices)* p, const int registers, long columns, long j, long i, long end) {
  T packed[DEEP * 2 * W] __attribute__((aligned(BYTES)));
  const long times = (p->k + DEEP - 1) / DEEP, each = ((p->k + times - 1) / times + W - 1) / W * W;
  for (long l = 0; l < p->k; l += each) {
    const long k = p->k - l < each ? p->k - l : each;
    NAME(pack)(packed, registers, k, columns, p->B + l * p->rb + j * p->cb, p->rb, p->cb);
    const T* a = p->A + l * p->ca;
    T* c = p->C + j;
    long r = i;
#define TILES(rows) for (; r + rows <= end; r += rows) NAME(tile)(rows, registers, k, columns, a + r * p->ra, p->ra, p->ca, packed, c + r * p->n, p->n, l > 0)
    TILES(ROWS); TILES(4); TILES(1);
  }
}

/* A thread's part of the strips, each of them in blocks of rows. */
static void NAME(part)(void* with) {
  const NAME(matrices)* p = with;
  const long strips = (p->n + 2 * W - 1) / (2 * W), tasks = strips * p->blocks, rows = (p->m + p->blocks * ROWS - 1) / (p->blocks * ROWS) * ROWS;
  for (long t = tasks * part_of_thread() / parts_of_loop(); t < tasks * (part_of_thread() + 1) / parts_of_loop(); t++) {
    const long j = t / p->blocks * 2 * W, columns = p->n - j, from = t % p->blocks * rows, to = from + rows < p->m ? from + rows : p->m;
    if (columns > W) NAME(strip)(p, 2, columns < 2 * W ? columns : 2 * W, j, from, to);
    else NAME(strip)(p, 1, columns, j, from, to);
  }
}

/* C = A B, of (m, k) and (k, n) with the strides of their rows and columns; those of C lie together. */
void NAME(multiply)(long m, long n, long k, const T* A, long ra, long ca, const T* B, long rb, long cb, T* C, int threads) {
  const long strips = (n + 2 * W - 1) / (2 * W), parts = threads > 1 ? PARTS * threads : 1, most = m / (4 * ROWS);
  const long blocks = parts / strips < most ? parts / strips : most;
  NAME(matrices) p = {m, n, k, ra, ca, rb, cb, blocks > 1 ? blocks : 1, A, B, C};
  share(NAME(part), &p, parts < strips * p.blocks ? parts : strips * p.blocks, threads);
}
#undef W
#undef TILES
#endif
