/* Calls through a lazily bound PLT: every kind of argument arrives, the first call of longjmp and of a function with callbacks, then the same with LD_BIND_NOT (every call is
   resolved) in two threads under a storm of signals whose handler makes such calls too. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static jmp_buf back;
static volatile sig_atomic_t signals;
static volatile int wrong;

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static __attribute__((noinline)) void jump(int depth) {
    if (depth > 0) {
        jump(depth - 1);
        __asm__ volatile("");
        return;
    }
    longjmp(back, 7);
}

static void on_alarm(int number) {
    char text[32];
    (void)number;
    /* Async-signal-safe in glibc for these arguments, and called nowhere else. */
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    if (strnlen(text, sizeof text) != sizeof text - 1) {
        wrong++;
    }
    signals++;
}

static void arguments(void) {
    char line[256];
    int n = snprintf(line, sizeof line, "%d %ld %s %c %u %x %g %g %g %g %g %g %g %g %g %d", 1, 2L, "three", '4', 5u, 6u, .5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 17);
    printf("%d [%s]\n", n, line);
    printf("%.6f %.6f\n", fma(2.0, 3.0, 4.0), ldexp(0.75, 4));
}

static void *work(void *result) {
    char text[64];
    unsigned long sum = 0;
    for (int k = 0; k < 4000; k++) {
        sprintf(text, "%d:%.3f:%s", k, k / 8.0, k & 1 ? "odd" : "even");
        sum = sum * 31 + strlen(text) + (unsigned long)atoi(text) + (unsigned char)*strchr(text, k & 1 ? 'd' : 'v');
    }
    *(unsigned long *)result = sum;
    return NULL;
}

int main(int argc, char **argv) {
    (void)argc;
    char *names[] = {"pear", "fig", "apple", "quince"};
    arguments();
    qsort(names, 4, sizeof *names, by_name);
    printf("%s %s %s %s\n", names[0], names[1], names[2], names[3]);
    int came = setjmp(back);
    if (came == 0) {
        jump(5);
    }
    printf("longjmp gave %d\n", came);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &often, NULL);
    unsigned long sums[2];
    pthread_t thread;
    pthread_create(&thread, NULL, work, &sums[1]);
    work(&sums[0]);
    pthread_join(thread, NULL);
    while (signals < 3) {
    }
    memset(&often, 0, sizeof often);
    setitimer(ITIMER_REAL, &often, NULL);
    printf("%lu %d wrong %d\n", sums[0], sums[0] == sums[1], wrong);
    fflush(stdout);
    if (!getenv("LD_BIND_NOT")) {
        setenv("LD_BIND_NOT", "1", 1);
        execv(argv[0], argv);
        perror("execv");
        return 1;
    }
    return 0;
}
