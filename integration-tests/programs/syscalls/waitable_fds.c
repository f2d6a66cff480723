/* eventfd, timerfd, signalfd, inotify. */
#include "facts.h"
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
int main(void) {
    begin();
    unsigned long long v = 5;
    int e = ok("eventfd", eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE));
    say("write", write(e, &v, 8));
    say("read", read(e, &v, 8));
    fact("semaphore", v);
    v = ~0ull;
    say("write max", write(e, &v, 8));
    say("read short", read(e, &v, 4));
    say("eventfd flag", eventfd(0, 0x4000));
    int t = ok("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    struct itimerspec s = {{0, 0}, {0, 1000}}, old;
    say("settime", timerfd_settime(t, 0, &s, &old));
    fact("old", old.it_value.tv_sec + old.it_value.tv_nsec);
    say("read", read(t, &v, 8));
    fact("expired", v);
    say("gettime", timerfd_gettime(t, &s));
    fact("left", s.it_value.tv_nsec);
    s.it_value.tv_nsec = 1000000000;
    say("bad time", timerfd_settime(t, 0, &s, NULL));
    say("bad clock", timerfd_create(77, 0));
    say("wild", timerfd_settime(t, 0, WILD, NULL));
    say("not a timer", timerfd_gettime(e, &s));
    sigset_t m;
    sigemptyset(&m); sigaddset(&m, SIGUSR1); sigaddset(&m, SIGUSR2);
    sigprocmask(SIG_BLOCK, &m, NULL);
    int f = ok("signalfd", signalfd(-1, &m, SFD_NONBLOCK));
    struct signalfd_siginfo i;
    say("read none", read(f, &i, sizeof i));
    kill(getpid(), SIGUSR2);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42});
    say("read", read(f, &i, sizeof i));
    printf("signal %u value %d own %d\n", i.ssi_signo, i.ssi_int, i.ssi_pid == (unsigned)getpid());
    say("read", read(f, &i, sizeof i));
    printf("signal %u code %d\n", i.ssi_signo, i.ssi_code);
    say("mask size", syscall(SYS_signalfd4, -1, &m, 4, 0));
    int n = ok("inotify", inotify_init1(IN_NONBLOCK));
    say("watch", inotify_add_watch(n, ".", IN_CREATE | IN_DELETE));
    say("watch missing", inotify_add_watch(n, "none", IN_CREATE));
    say("watch no events", inotify_add_watch(n, ".", 0));
    close(creat("f", 0600));
    unlink("f");
    char b[256];
    say("read", read(n, b, sizeof b));
    struct inotify_event *x = (void *)b;
    printf("%x %s\n", x->mask, x->name);
    say("remove", inotify_rm_watch(n, 1));
    say("remove again", inotify_rm_watch(n, 1));
}
