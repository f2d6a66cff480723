/* poll, ppoll, select, pselect6: what is ready, masks, errors. */
#include "facts.h"
#include <poll.h>
#include <sys/select.h>
static volatile int caught;
static void on(int s) { caught = s; }
int main(void) {
    begin();
    int p[2];
    pipe(p);
    struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {99, POLLIN, 0}};
    say("poll", poll(f, 3, 0));
    printf("%x %x %x\n", f[0].revents, f[1].revents, f[2].revents);
    f[2].fd = -1;
    write(p[1], "x", 1);
    say("poll", poll(f, 3, -1));
    printf("%x %x %x\n", f[0].revents, f[1].revents, f[2].revents);
    say("poll none", poll(NULL, 0, 1));
    say("poll wild", syscall(SYS_poll, WILD, 1, 0));
    fd_set r, w;
    FD_ZERO(&r); FD_ZERO(&w); FD_SET(p[0], &r); FD_SET(p[1], &w);
    struct timeval zero = {0, 0};
    say("select", select(p[1] + 1, &r, &w, NULL, &zero));
    printf("%d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[1], &w));
    /* Below 64: the kernel ignores bits past the descriptor table's size, which depends on what the process had open before. */
    FD_SET(40, &r);
    say("select closed", select(41, &r, NULL, NULL, &zero));
    say("select negative", select(-1, NULL, NULL, NULL, &zero));
    fd_set near_the_end;
    FD_ZERO(&near_the_end);
    say("select of any number", select(1 << 20, &near_the_end, NULL, NULL, &zero));
    say("select of more", select(0x7fffffff, NULL, &near_the_end, NULL, &zero));
    zero.tv_usec = -1;
    say("select bad time", select(0, NULL, NULL, NULL, &zero));
    char b;
    read(p[0], &b, 1);
    struct timespec ms = {0, 1000000}, bad = {0, -1};
    say("ppoll timeout", ppoll(f, 1, &ms, NULL));
    say("ppoll bad time", ppoll(f, 1, &bad, NULL));
    say("ppoll bad mask size", syscall(SYS_ppoll, f, 1, &ms, &r, 4));
    say("pselect6 bad mask", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ms, WILD));
    /* A blocked, pending signal is delivered by the mask of the wait and only by it. */
    signal(SIGUSR1, on);
    sigset_t block, none;
    sigemptyset(&block); sigaddset(&block, SIGUSR1); sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    fact("caught", caught);
    say("ppoll interrupted", ppoll(f, 1, NULL, &none));
    fact("caught", caught);
    caught = 0;
    raise(SIGUSR1);
    say("pselect interrupted", pselect(0, NULL, NULL, NULL, NULL, &none));
    fact("caught", caught);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    fact("still blocked", sigismember(&now, SIGUSR1));
    close(p[1]);
    say("poll hangup", poll(f, 1, -1));
    printf("%x\n", f[0].revents);
}
