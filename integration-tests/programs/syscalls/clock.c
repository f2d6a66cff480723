/* Clocks and sleeping: which clocks exist, errors, interrupted sleeps. */
#include "facts.h"
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>
static void on(int s) { (void)s; }
int main(void) {
    begin();
    struct timespec t, r;
    for (int c = 0; c < 13; c++) {
        printf("clock %d ", c);
        say("gettime", syscall(SYS_clock_gettime, c, &t));
    }
    say("getres", syscall(SYS_clock_getres, CLOCK_MONOTONIC, &t));
    fact("resolution", t.tv_nsec);
    say("getres null", syscall(SYS_clock_getres, CLOCK_MONOTONIC, NULL));
    say("wild", syscall(SYS_clock_gettime, 0, WILD));
    struct timeval v;
    struct timezone z;
    say("gettimeofday", syscall(SYS_gettimeofday, &v, &z));
    fact("plausible", v.tv_sec > 1600000000);
    fact("time", syscall(SYS_time, NULL) >= v.tv_sec);
    struct timex x = {0};
    ok("adjtimex", adjtimex(&x));
    fact("a tick", x.tick >= 9000 && x.tick <= 11000);
    struct timex y = {0};
    ok("clock_adjtime", clock_adjtime(CLOCK_REALTIME, &y));
    fact("the same", x.tick == y.tick);
    ok("adjtime asks", adjtime(NULL, &v));
    gettimeofday(&v, NULL);
    struct tms m;
    ok("times", times(&m));
    t = (struct timespec){0, 1000000};
    say("nanosleep", nanosleep(&t, &r));
    t.tv_nsec = 1000000000;
    say("nanosleep bad", nanosleep(&t, &r));
    say("nanosleep null", syscall(SYS_nanosleep, NULL, NULL));
    t = (struct timespec){1, 0};
    say("sleep until past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
    say("sleep bad clock", clock_nanosleep(77, 0, &t, NULL));
    struct sigaction a = {.sa_handler = on};
    sigaction(SIGALRM, &a, NULL);
    struct itimerval i = {{0, 0}, {0, 20000}}, old;
    say("setitimer", setitimer(ITIMER_REAL, &i, &old));
    t = (struct timespec){5, 0};
    say("sleep interrupted", nanosleep(&t, &r));
    fact("most is left", r.tv_sec == 4);
    say("getitimer", getitimer(ITIMER_REAL, &i));
    fact("left", i.it_value.tv_usec);
    say("setitimer which", setitimer(9, &i, NULL));
    say("alarm", alarm(100));
    fact("alarm left", alarm(0) > 90);
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    i = (struct itimerval){{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &i, NULL);
    say("sleep is not restarted", nanosleep(&t, &r));
}
