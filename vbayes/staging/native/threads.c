/* The threads among which the programs of a process share out their loops.

   A loop comes in more parts than there are threads. Each takes the next part that nobody has begun, the one that calls as well: one that the machine has set aside keeps nobody
   waiting, but for the part that it is in. Who has nothing to do looks for a moment, and then sleeps. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#if defined(__x86_64__)
#define PAUSE __builtin_ia32_pause()
#else
#define PAUSE atomic_signal_fence(memory_order_seq_cst)
#endif
#define LOOKS 1000  /* before a thread sleeps: some 40 µs */

static void (*work)(void*);
static void* given;
static int helpers;             /* of the loop, beside the one that calls */
static _Atomic uint64_t next;   /* number of the loop (32 bits), its parts (16), which of them is the next to begin (16) */
static _Atomic int left, asleep, awaited;  /* parts that are not done; threads that sleep; whether the one that calls does */
static int started, watched;
static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER, lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static _Thread_local int part, parts = 1, inside;

int part_of_thread(void) { return part; }
int parts_of_loop(void) { return parts; }

static void tell(pthread_cond_t* whom) {
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(whom);
  pthread_mutex_unlock(&lock);
}

/* A part of the loop with this number, if there is one that nobody has begun. */
static int take(uint64_t number) {
  uint64_t now = atomic_load(&next);
  do {
    if (now >> 32 != number || (uint16_t)now >= (uint16_t)(now >> 16)) return 0;
  } while (!atomic_compare_exchange_weak(&next, &now, now + 1));
  part = (uint16_t)now; parts = (uint16_t)(now >> 16);
  work(given);
  if (atomic_fetch_sub(&left, 1) == 1 && atomic_load(&awaited)) tell(&done);
  return 1;
}

static void* help(void* place) {
  inside = 1;
  for (uint64_t last = 0, number;; last = number) {
    for (int i = 0; (number = atomic_load(&next) >> 32) == last && i < LOOKS; i++) PAUSE;
    if (number == last) {
      pthread_mutex_lock(&lock);
      atomic_fetch_add(&asleep, 1);
      while ((number = atomic_load(&next) >> 32) == last) pthread_cond_wait(&begun, &lock);
      atomic_fetch_sub(&asleep, 1);
      pthread_mutex_unlock(&lock);
    }
    while ((intptr_t)place < helpers && take(number));
  }
  return 0;
}

/* A forked process has the thread alone that forked it. */
static void alone(void) {
  pthread_mutex_init(&caller, 0); pthread_mutex_init(&lock, 0);
  pthread_cond_init(&begun, 0); pthread_cond_init(&done, 0);
  next = next >> 32 << 32;
  started = asleep = awaited = 0;
}

/* All parts of a loop, by so many threads. A loop inside another one's part is one part, and one that comes while another thread's is under way stays on its own. */
void share(void (*run)(void*), void* with, int count, int threads) {
  if (inside || count == 1 || threads == 1 || pthread_mutex_trylock(&caller)) {
    const int was = inside, own = part, all = parts;
    parts = inside ? 1 : count;
    inside = 1;
    for (part = 0; part < parts; part++) run(with);
    inside = was; part = own; parts = all;
    return;
  }
  if (!watched) watched = !pthread_atfork(0, 0, alone);
  for (pthread_t made; started < threads - 1 && !pthread_create(&made, 0, help, (void*)(intptr_t)started); started++) pthread_detach(made);
  const uint64_t number = (uint32_t)((next >> 32) + 1);
  work = run; given = with; helpers = threads - 1; left = count;
  atomic_store(&next, number << 32 | (uint64_t)count << 16);
  if (atomic_load(&asleep)) tell(&begun);
  inside = 1;
  while (take(number));
  inside = 0; part = 0; parts = 1;
  for (int i = 0; atomic_load(&left) && i < LOOKS; i++) PAUSE;
  if (atomic_load(&left)) {
    pthread_mutex_lock(&lock);
    awaited = 1;
    while (atomic_load(&left)) pthread_cond_wait(&done, &lock);
    awaited = 0;
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_unlock(&caller);
}
