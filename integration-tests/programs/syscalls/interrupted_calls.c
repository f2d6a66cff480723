/* Calls that signals do not interrupt, without SA_RESTART. A PI mutex that a handler ran over was taken by two threads: FUTEX_LOCK_PI was EINTR, which glibc takes for success.
 * And a signal that came right before a call had begun was EINTR of calls that never wait: FUTEX_WAKE, whose answer nobody looks at, woke nobody. */
#include "facts.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>
static volatile sig_atomic_t hits;
static void on(int s) { (void)s; hits++; }
static pthread_mutex_t mutex;
static atomic_int inside, begun;
static void *owner(void *arg) {
    sigset_t all;
    sigfillset(&all), pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_mutex_lock(&mutex);
    inside++, begun = 1;
    usleep(300000);
    inside--;
    pthread_mutex_unlock(&mutex);
    return arg;
}
static atomic_int ended;
static void *sleeper(void *arg) {
    sigset_t all;
    sigfillset(&all), pthread_sigmask(SIG_SETMASK, &all, NULL);
    while (!ended) usleep(1000);
    return arg;
}
int main(void) {
    begin();
    struct sigaction a = {.sa_handler = on};
    sigaction(SIGALRM, &a, NULL);
    pthread_mutexattr_t pi;
    pthread_mutexattr_init(&pi), pthread_mutexattr_setprotocol(&pi, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex, &pi);
    pthread_t t;
    pthread_create(&t, NULL, owner, NULL);
    while (!begun) usleep(1000);
    struct itimerval once = {{0, 0}, {0, 50000}}, often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &once, NULL);
    fact("lock", pthread_mutex_lock(&mutex));
    fact("handled meanwhile", hits);
    fact("others inside", inside);
    fact("unlock", pthread_mutex_unlock(&mutex));
    pthread_join(t, NULL);
    int futex = 0, other = 0, bad = 0, f = open("f", O_RDWR | O_CREAT, 0600), status;
    pid_t pid = fork();
    if (!pid) { pause(); _exit(0); }
    pthread_create(&t, NULL, sleeper, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do {
        for (int i = 0; i < 200; i++) {
            bad += syscall(SYS_futex, &futex, FUTEX_WAKE, 1, NULL, NULL, 0) != 0;
            bad += syscall(SYS_futex, &futex, FUTEX_REQUEUE, 1, NULL, &other, 0) != 0;
            bad += fcntl(f, F_GETFL) == -1;
            bad += waitpid(pid, &status, WNOHANG) != 0;
            bad += pwrite(f, "x", 1, 0) != 1;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000 < 1000);
    setitimer(ITIMER_REAL, &never, NULL);
    ended = 1;
    pthread_join(t, NULL);
    fact("often enough", hits > 100);
    fact("interrupted", bad);
    kill(pid, SIGKILL), waitpid(pid, &status, 0);
    unlink("f");
}
