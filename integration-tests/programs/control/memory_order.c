/* What threads see of each other's plain loads and stores: the order of x86. A seqlock and a spinlock released by a plain store. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
static struct { _Atomic unsigned seq; _Atomic long a, b; } pair;
static struct { atomic_int taken; long a, b; } locked;
static atomic_int quit;

static void *sequence_writer(void *unused) {
    for (long n = 1; !atomic_load_explicit(&quit, memory_order_relaxed); n++) {
        unsigned s = atomic_load_explicit(&pair.seq, memory_order_relaxed);
        atomic_store_explicit(&pair.seq, s + 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        atomic_store_explicit(&pair.a, n, memory_order_relaxed);
        atomic_store_explicit(&pair.b, n, memory_order_relaxed);
        atomic_store_explicit(&pair.seq, s + 2, memory_order_release);
    }
    return unused;
}

/* -1 if the pair changed meanwhile, else whether its halves differ. */
static __attribute__((noinline)) int read_pair(void) {
    unsigned s = atomic_load_explicit(&pair.seq, memory_order_acquire);
    long a = atomic_load_explicit(&pair.a, memory_order_acquire), b = atomic_load_explicit(&pair.b, memory_order_acquire);
    if (s & 1 || s != atomic_load_explicit(&pair.seq, memory_order_relaxed)) return -1;
    return a != b;
}

static __attribute__((noinline)) void lock(void) {
    while (atomic_exchange_explicit(&locked.taken, 1, memory_order_acquire)) continue;
}

static void *locking_writer(void *unused) {
    for (long n = 1; !atomic_load_explicit(&quit, memory_order_relaxed); n++) {
        lock();
        locked.a = n;
        locked.b = n;
        atomic_store_explicit(&locked.taken, 0, memory_order_release);
    }
    return unused;
}

static __attribute__((noinline)) long difference(void) {
    lock();
    long a = locked.a, b = locked.b;
    atomic_store_explicit(&locked.taken, 0, memory_order_release);
    return a - b;
}

int main(void) {
    pthread_t t;
    long torn = 0, read = 0;
    pthread_create(&t, NULL, sequence_writer, NULL);
    while (read < 3000000) {
        int r = read_pair();
        if (r >= 0) read++, torn += r;
    }
    quit = 1;
    pthread_join(t, NULL);
    printf("torn behind the sequence: %ld\n", torn);
    quit = 0, torn = 0;
    pthread_create(&t, NULL, locking_writer, NULL);
    for (read = 0; read < 3000000; read++) torn += difference() != 0;
    quit = 1;
    pthread_join(t, NULL);
    printf("torn behind the lock: %ld\n", torn);
}
