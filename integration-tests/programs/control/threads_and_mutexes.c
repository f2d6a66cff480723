// Four threads, a mutex, a condition variable, thread-local storage, atomics and a spin on a plain published flag.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static long counter, arrived;
static atomic_long atomic_counter;
static _Thread_local long mine;
static atomic_int go;

static void *work(void *arg) {
    pthread_mutex_lock(&lock);
    arrived++;
    pthread_cond_signal(&ready);
    pthread_mutex_unlock(&lock);
    while (!atomic_load_explicit(&go, memory_order_acquire)) {
    }
    for (int i = 0; i < 20000; i++) {
        mine += i & 3;
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
        atomic_fetch_add(&atomic_counter, 2);
    }
    return (void *)mine;
}

int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, NULL);
    pthread_mutex_lock(&lock);
    while (arrived < 4) pthread_cond_wait(&ready, &lock);
    pthread_mutex_unlock(&lock);
    atomic_store_explicit(&go, 1, memory_order_release);
    long total = 0;
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(t[i], &r);
        total += (long)r;
    }
    printf("%ld %ld %ld %ld\n", counter, (long)atomic_counter, total, mine);
}
