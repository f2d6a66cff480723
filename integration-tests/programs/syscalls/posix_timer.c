/* timer_create and friends: delivery with a value, overruns, deletion. */
#include "facts.h"
#include <time.h>
static volatile int caught, value, code;
static void on(int s, siginfo_t *i, void *c) { (void)c; caught = s; value = i->si_value.sival_int; code = i->si_code; }
int main(void) {
    begin();
    struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    timer_t t, none;
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    say("create", timer_create(CLOCK_MONOTONIC, &e, &t));
    struct itimerspec s = {{0, 0}, {0, 1000000}}, left;
    sigset_t block, old;
    sigemptyset(&block); sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &old);
    say("settime", timer_settime(t, 0, &s, NULL));
    sigsuspend(&old);
    printf("caught %d value %d timer %d\n", caught, value, code == SI_TIMER);
    say("overrun", timer_getoverrun(t));
    say("gettime", timer_gettime(t, &left));
    fact("left", left.it_value.tv_nsec);
    s.it_value.tv_nsec = -1;
    say("bad time", timer_settime(t, 0, &s, NULL));
    say("delete", timer_delete(t));
    say("deleted", syscall(SYS_timer_gettime, 12345, &left));
    e.sigev_notify = SIGEV_NONE;
    say("create none", timer_create(CLOCK_REALTIME, &e, &none));
    e.sigev_notify = 99;
    int id;
    say("bad notify", syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id));
    e.sigev_notify = SIGEV_SIGNAL; e.sigev_signo = 200;
    say("bad signal", syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id));
    say("bad clock", syscall(SYS_timer_create, 99, NULL, &id));
    say("wild", syscall(SYS_timer_create, CLOCK_MONOTONIC, WILD, &id));
}
