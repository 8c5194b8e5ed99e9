/* What every program stands on: functions that C's library does not have, indices that are checked, and the driver.

   A program includes this after <math.h> and, where there are some, the declarations of vectorised functions. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <omp.h>

/* Functions */

static double digamma(double x) {
  double shift = 0;
  uint64_t bits;  /* under -fno-signed-zeros nothing else tells the zeros apart */
  memcpy(&bits, &x, sizeof bits);
  if (!(bits << 1)) return bits ? INFINITY : -INFINITY;
  if (x < 0) {
    if (x == floor(x)) return NAN;
    shift = -M_PI / tan(M_PI * x);
    x = 1 - x;
  }
  while (x < 10) { shift -= 1 / x; x += 1; }
  const double y = 1 / (x * x);
  const double series = y * (1. / 12 - y * (1. / 120 - y * (1. / 252 - y * (1. / 240 - y * (1. / 132 - y * 691. / 32760)))));
  return shift + log(x) - 0.5 / x - series;
}
static float digammaf(float x) { return (float)digamma(x); }

static double trigamma(double x) {
  double shift = 0;
  if (x <= 0) {
    if (x == floor(x)) return INFINITY;
    const double s = M_PI / sin(M_PI * x);
    return s * s - trigamma(1 - x);
  }
  while (x < 10) { shift += 1 / (x * x); x += 1; }
  const double y = 1 / (x * x);
  const double series = 1. / 6 - y * (1. / 30 - y * (1. / 42 - y * (1. / 30 - y * (5. / 66 - y * (691. / 2730)))));
  return shift + (1 + 0.5 / x + y * series) / x;
}
static float trigammaf(float x) { return (float)trigamma(x); }

static double erfinv(double y) {
  /* Giles 2010, Approximating the erfinv function, for a start; two steps of Newton make it exact. Giles made it for floats: nearer
     to 1 than those come it is too far off, and is led back by Newton on the logarithm, which is all but straight there. */
  if (!(fabs(y) < 1)) return fabs(y) == 1 ? copysign(INFINITY, y) : NAN;
  const double a = fabs(y);
  double w = -log((1 - a) * (1 + a)), x;
  const int beyond_floats = w > 16;
  if (w < 5) {
    w -= 2.5;
    x = 2.81022636e-08;
    x = 3.43273939e-07 + x * w; x = -3.5233877e-06 + x * w; x = -4.39150654e-06 + x * w;
    x = 0.00021858087 + x * w; x = -0.00125372503 + x * w; x = -0.00417768164 + x * w;
    x = 0.246640727 + x * w; x = 1.50140941 + x * w;
  } else {
    w = sqrt(w) - 3;
    x = -0.000200214257;
    x = 0.000100950558 + x * w; x = 0.00134934322 + x * w; x = -0.00367342844 + x * w;
    x = 0.00573950773 + x * w; x = -0.0076224613 + x * w; x = 0.00943887047 + x * w;
    x = 1.00167406 + x * w; x = 2.83297682 + x * w;
  }
  x *= a;
  for (int i = 0; i < 2 * beyond_floats; i++) x += log(erfc(x) / (1 - a)) * erfc(x) / (M_2_SQRTPI * exp(-x * x));
  for (int i = 0; i < 2; i++) x += (erfc(x) - (1 - a)) / (M_2_SQRTPI * exp(-x * x));
  return copysign(x, y);
}
static float erfinvf(float y) { return (float)erfinv(y); }

#include "implicit.h"

/* BLAS and LAPACK, as torch has them; their addresses are handed in when the library is loaded. */

#define BLAS(f, T) \
  static void (*f##gemm)(const char*, const char*, const int*, const int*, const int*, const T*, const T*, const int*, const T*, const int*, \
                         const T*, T*, const int*); \
  static void (*f##gemv)(const char*, const int*, const int*, const T*, const T*, const int*, const T*, const int*, const T*, T*, const int*); \
  static void (*f##trsm)(const char*, const char*, const char*, const char*, const int*, const int*, const T*, const T*, const int*, T*, const int*); \
  static void (*f##potrf)(const char*, const int*, T*, const int*, int*); \
  static const T f##one = 1, f##zero = 0;
BLAS(s, float)
BLAS(d, double)
static int keep_threads(int n) { return n; }
static int (*blas_threads)(int) = keep_threads;  /* sets how many of them the products of this thread may take, and returns how many before */
#define ALONE(call) { const int before = blas_threads(1); call; blas_threads(before); }
void set_blas(void** s, void** d, void* threads) {
  if (threads) blas_threads = threads;
  void** const floats[] = {(void**)&sgemm, (void**)&sgemv, (void**)&strsm, (void**)&spotrf};
  void** const doubles[] = {(void**)&dgemm, (void**)&dgemv, (void**)&dtrsm, (void**)&dpotrf};
  for (int i = 0; i < 4; i++) { *floats[i] = s[i]; *doubles[i] = d[i]; }
}

/* Threads. gcc makes a function of each loop that OpenMP is to share out, and calls these; ours hand it to `threads.c`. Other compilers keep OpenMP's own. */

static int threads = 1;
#ifdef __clang__
void set_threads(int n) { omp_set_num_threads(n); }
void set_team(void* share, void* part, void* parts) {}
#else
#define PARTS 4  /* a thread: one that comes late, or is set aside, costs a fraction of its share */
#define OURS __attribute__((visibility("hidden")))
static void (*share)(void (*)(void*), void*, int, int);
static int (*part_of_thread)(void), (*parts_of_loop)(void);
void set_team(void* all, void* part, void* parts) { share = all; part_of_thread = part; parts_of_loop = parts; }
void set_threads(int n) { threads = n; }
OURS int omp_get_thread_num(void) { return part_of_thread(); }
OURS int omp_get_num_threads(void) { return parts_of_loop(); }
OURS void GOMP_parallel(void (*run)(void*), void* with, unsigned parts, unsigned flags) {
  share(run, with, parts ? parts : threads > 1 ? PARTS * threads : 1, threads);
}
#endif

/* Products of matrices by `products.c`; null where BLAS is to make them. */
#define PRODUCT(f, T) static void (*f##product)(long m, long n, long k, const T* A, long ra, long ca, const T* B, long rb, long cb, T* C, int threads);
PRODUCT(s, float)
PRODUCT(d, double)
void set_products(void* s, void* d) { sproduct = s; dproduct = d; }

/* Products of a matrix, whose rows lie together, and a vector. Who calls sees to it that rows are long; for short ones BLAS is better, for these it was slower
   by half on a processor that its makers do not mean it for. Each result is one thread's alone, so that the sums are the same for any number of threads. */

#define SHARED (1L << 20)  /* multiplications from which a second thread repays its start, also where it comes late */
#define PART 1024  /* results that are summed up together: they stay in the nearest cache */
#define VECTORS(f, T) \
  /* y = A x: four rows at a time, so that x is fetched a quarter as often. */ \
  static void f##dots(T* restrict y, const T* restrict A, const T* restrict x, long rows, long n, long lda) { \
    _Pragma("omp parallel for if(rows * n >= SHARED)") \
    for (long g = 0; g < rows; g += 4) { \
      const T* restrict a = A + g * lda; \
      if (g + 4 > rows) { \
        for (long i = g; i < rows; i++, a += lda) { \
          T sum = 0; \
          _Pragma("omp simd reduction(+:sum)") \
          for (long l = 0; l < n; l++) sum += a[l] * x[l]; \
          y[i] = sum; \
        } \
      } else { \
        T s0 = 0, s1 = 0, s2 = 0, s3 = 0; \
        _Pragma("omp simd reduction(+:s0, s1, s2, s3)") \
        for (long l = 0; l < n; l++) { \
          const T b = x[l]; \
          s0 += a[l] * b; s1 += a[lda + l] * b; s2 += a[2 * lda + l] * b; s3 += a[3 * lda + l] * b; \
        } \
        y[g] = s0; y[g + 1] = s1; y[g + 2] = s2; y[g + 3] = s3; \
      } \
    } \
  } \
  /* y = x A: eight rows at a time, so that y is fetched an eighth as often. */ \
  static void f##combined(T* restrict y, const T* restrict A, const T* restrict x, long rows, long n, long lda) { \
    _Pragma("omp parallel for if(rows * n >= SHARED)") \
    for (long from = 0; from < n; from += PART) { \
      const long to = n - from < PART ? n - from : PART; \
      T* restrict sum = y + from; \
      memset(sum, 0, to * sizeof(T)); \
      long i = 0; \
      for (; i + 8 <= rows; i += 8) { \
        const T* restrict a = A + i * lda + from; \
        const T *b = a + lda, *c = b + lda, *d = c + lda, *e = d + lda, *g = e + lda, *h = g + lda, *k = h + lda; \
        T q[8];  /* read once: for all that gcc knows, a sum might be written over x */ \
        memcpy(q, x + i, sizeof q); \
        _Pragma("omp simd") \
        for (long j = 0; j < to; j++) \
          sum[j] += ((q[0] * a[j] + q[1] * b[j]) + (q[2] * c[j] + q[3] * d[j])) + ((q[4] * e[j] + q[5] * g[j]) + (q[6] * h[j] + q[7] * k[j])); \
      } \
      for (; i < rows; i++) { \
        const T* restrict a = A + i * lda + from; \
        const T q = x[i]; \
        _Pragma("omp simd") \
        for (long j = 0; j < to; j++) sum[j] += q * a[j]; \
      } \
    } \
  }
VECTORS(s, float)
VECTORS(d, double)


/* Division of integers. By zero the processor would end the process, and so it would where the quotient is too large for its type, of the
   least number by -1. The first gives 0, and is told of when the step is over; the rest of the second is 0. */
static int division_by_zero;
static inline int64_t rest(int64_t a, int64_t b) {
  if (b == 0) { division_by_zero = 1; return 0; }
  return b == -1 ? 0 : a % b;
}
static inline int64_t modulo_of_integers(int64_t a, int64_t b) {
  const int64_t r = rest(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* The rest that has the divisor's sign, and the quotient rounded down, to the last digit as torch has them: a quotient that was rounded up to
   a whole number would be one too large, and its rest negative. */
static double modulo(double a, double b) {
  const double r = fmod(a, b);
  return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}
static float modulof(float a, float b) {
  const float r = fmodf(a, b);
  return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}
static double div_floor(double a, double b) {
  if (b == 0) return a / b;
  const double r = fmod(a, b);
  double q = (a - r) / b;
  if (r != 0 && (b < 0) != (r < 0)) q -= 1;
  const double down = floor(q);
  return q - down > 0.5 ? down + 1 : down;
}
static float div_floorf(float a, float b) {
  if (b == 0) return a / b;
  const float r = fmodf(a, b);
  float q = (a - r) / b;
  if (r != 0 && (b < 0) != (r < 0)) q -= 1;
  const float down = floorf(q);
  return q - down > 0.5f ? down + 1 : down;
}

/* Shifts, also by more bits than there are, of which C says nothing. */
static inline int64_t shifted_left(int64_t a, int64_t by, int bits) { return by < 0 || by >= bits ? 0 : (int64_t)((uint64_t)a << by); }
static inline int64_t shifted_right(int64_t a, int64_t by, int bits) { return a >> (by < 0 || by >= bits ? bits - 1 : by); }

/* An index into a dimension of n, counted from its end if it is negative. One that is out of range reads the first element, and
   is told of when the step is over. */
static int out_of_range;
static inline long place(long i, long n) {
  if (i < 0) i += n;
  if ((unsigned long)i >= (unsigned long)n) { out_of_range = 1; return 0; }
  return i;
}

/* A program with its arrays. Input i moves on by forward[i] bytes after each of its steps, output i by back[i] after every step.
   Where `finite` is an output, a step with 0 there is the last one. */
typedef struct {
  int (*program)(void**, void**, char*);
  void** in; void** out; char* work;
  long ins, outs;
  const long* forward; const long* back;
  long finite;
} call_t;

/* Steps by one program, or by several that overwrite the same states: step t by calls[which[t]].
   Returns the number of steps before one that is not finite, or what is wrong: -1 for an index that is out of range, -2 for a division by zero. */
long run(long steps, call_t* calls, long count, const uint8_t* which) {
  for (long t = 0; t < steps; t++) {
    call_t* c = calls + (which ? which[t] : 0);
    const int wrong = c->program(c->in, c->out, c->work);
    if (wrong) return wrong & 1 ? -1 : -2;
    if (c->finite >= 0 && !*(const uint8_t*)c->out[c->finite]) return t;
    for (long i = 0; i < c->ins; i++) c->in[i] = (char*)c->in[i] + c->forward[i];
    for (call_t* each = calls; each < calls + count; each++)
      for (long i = 0; i < each->outs; i++) each->out[i] = (char*)each->out[i] + each->back[i];
  }
  return steps;
}

/* The same where no step needs another one: threads share them out, and each has `size` bytes of working memory. */
long map(long steps, const call_t* c, long size, int threads) {
  int wrong = 0;
  #pragma omp parallel for schedule(static) num_threads(threads) reduction(|:wrong)
  for (long t = 0; t < steps; t++) {
    void* from[c->ins + 1];
    void* to[c->outs + 1];
    for (long i = 0; i < c->ins; i++) from[i] = (char*)c->in[i] + t * c->forward[i];
    for (long i = 0; i < c->outs; i++) to[i] = (char*)c->out[i] + t * c->back[i];
    ALONE(wrong |= c->program(from, to, c->work + omp_get_thread_num() * size))
  }
  return wrong ? (wrong & 1 ? -1 : -2) : steps;
}
