// siglongjmp out of a SIGALRM handler that interrupts a loop without calls.
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

static sigjmp_buf env;
static volatile unsigned long spins;

static void handler(int sig) { siglongjmp(env, sig); }

int main(void) {
    signal(SIGALRM, handler);
    for (volatile int i = 0; i < 3; i++) {
        struct itimerval t = {.it_value = {.tv_usec = 20000}};
        if (sigsetjmp(env, 1) == 0) {
            setitimer(ITIMER_REAL, &t, NULL);
            for (;;) spins++;
        }
        printf("out of loop %d\n", i);
    }
    return spins == 0;
}
