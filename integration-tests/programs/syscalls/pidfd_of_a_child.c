/* clone with CLONE_PIDFD: the descriptor is there when clone returns, or there is no child.
 * Where no number was free, and where nobody waits for children that end at once, the answer was a child and descriptor -1. */
#include "facts.h"
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
static long child_with(int *fd) { return syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, fd, NULL, NULL); }
int main(void) {
    begin();
    int fd = -7, status, next = dup(0);
    close(next);
    long pid = child_with(&fd);
    if (!pid) _exit(fcntl(next, F_GETFD) < 0 ? 3 : 4);
    ok("clone", pid);
    fact("lowest number", fd == next);
    say("close on exec", fcntl(fd, F_GETFD));
    struct pollfd p = {fd, POLLIN};
    say("poll", poll(&p, 1, 5000));
    siginfo_t info;
    say("waitid", waitid(P_PIDFD, fd, &info, WEXITED));
    printf("its own %d code %d\n", info.si_pid == pid, info.si_status);
    close(fd);
    say("wild", syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, WILD, NULL, NULL));
    say("no child", waitpid(-1, &status, 0));
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = next;
    setrlimit(RLIMIT_NOFILE, &none);
    fd = -7;
    say("no number free", child_with(&fd));
    fact("untouched", fd);
    say("no child", waitpid(-1, &status, 0));
    none.rlim_cur = next + 1;
    setrlimit(RLIMIT_NOFILE, &none);
    pid = child_with(&fd);
    if (!pid) _exit(0);
    ok("the last number", pid);
    waitpid(pid, &status, 0);
    close(fd);
    setrlimit(RLIMIT_NOFILE, &before);
    signal(SIGCHLD, SIG_IGN);
    int good = 0;
    for (int i = 0; i < 100; i++) {
        fd = -7;
        pid = child_with(&fd);
        if (!pid) _exit(0);
        good += pid > 0 && fd >= 0 && close(fd) == 0;
    }
    fact("children nobody waits for", good);
}
