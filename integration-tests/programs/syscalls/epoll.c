/* epoll: data is carried, edges and one-shots, errors, the mask of epoll_pwait. */
#include "facts.h"
#include <sys/epoll.h>
static volatile int caught;
static void on(int s) { caught = s; }
int main(void) {
    begin();
    int p[2], e = ok("create", epoll_create1(EPOLL_CLOEXEC));
    pipe(p);
    say("create bad", epoll_create1(1));
    say("create size", epoll_create(0));
    struct epoll_event v = {EPOLLIN, {.u64 = 0xfeedfacecafebeefull}}, out[4];
    say("add", epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
    say("add again", epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
    say("add itself", epoll_ctl(e, EPOLL_CTL_ADD, e, &v));
    say("mod missing", epoll_ctl(e, EPOLL_CTL_MOD, p[1], &v));
    int f = open("f", O_RDWR | O_CREAT, 0600);
    say("add file", epoll_ctl(e, EPOLL_CTL_ADD, f, &v));
    say("add wild", epoll_ctl(e, EPOLL_CTL_ADD, p[1], WILD));
    say("bad op", epoll_ctl(e, 9, p[1], &v));
    say("wait empty", epoll_wait(e, out, 4, 0));
    write(p[1], "x", 1);
    say("wait", epoll_wait(e, out, 4, -1));
    printf("%x %llx\n", out[0].events, (unsigned long long)out[0].data.u64);
    static struct epoll_event low[4]; /* no end of the address space is near */
    say("wait for very many", epoll_wait(e, low, 0x7fffffff / 12, 0));
    say("wait for too many", epoll_wait(e, out, 0x7fffffff, 0));
    say("wait none", epoll_wait(e, out, 0, 0));
    say("wait wild", epoll_wait(e, WILD, 4, 0));
    say("wait not epoll", epoll_wait(p[0], out, 4, 0));
    v.events = EPOLLIN | EPOLLONESHOT;
    say("mod", epoll_ctl(e, EPOLL_CTL_MOD, p[0], &v));
    say("oneshot", epoll_wait(e, out, 4, 0));
    say("oneshot again", epoll_wait(e, out, 4, 0));
    v.events = EPOLLOUT; v.data.u32 = 7;
    say("add writer", epoll_ctl(e, EPOLL_CTL_ADD, p[1], &v));
    struct timespec zero = {0, 0};
    say("pwait2", syscall(SYS_epoll_pwait2, e, out, 4, &zero, NULL, 8));
    fact("data", out[0].data.u32);
    say("del", epoll_ctl(e, EPOLL_CTL_DEL, p[1], NULL));
    signal(SIGUSR1, on);
    sigset_t block, none;
    sigemptyset(&block); sigaddset(&block, SIGUSR1); sigemptyset(&none);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGUSR1);
    say("pwait interrupted", epoll_pwait(e, out, 4, -1, &none));
    fact("caught", caught);
    unlink("f");
}
