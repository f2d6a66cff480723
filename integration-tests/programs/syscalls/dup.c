/* dup, dup2, dup3, F_DUPFD, close, close_range: lowest free numbers and CLOEXEC. */
#include "facts.h"
#include <linux/close_range.h>
int main(void) {
    begin();
    say("dup", dup(0));
    say("dup again", dup(0));
    say("close", close(3));
    say("lowest", dup(1));
    say("dup closed", dup(99));
    say("dup2", dup2(1, 10));
    say("dup2 same", dup2(10, 10));
    say("dup2 closed", dup2(99, 11));
    say("dup2 closed same", dup2(99, 99));
    say("dup2 negative", dup2(1, -1));
    say("dup3", dup3(1, 12, O_CLOEXEC));
    say("getfd", fcntl(12, F_GETFD));
    say("dup3 same", dup3(12, 12, 0));
    say("dup3 flag", dup3(1, 13, O_APPEND));
    say("dupfd", fcntl(1, F_DUPFD, 20));
    say("dupfd cloexec", fcntl(1, F_DUPFD_CLOEXEC, 20));
    say("getfd", fcntl(21, F_GETFD));
    say("setfd", fcntl(21, F_SETFD, 0));
    say("getfd", fcntl(21, F_GETFD));
    say("close_range cloexec", syscall(SYS_close_range, 10, 30, CLOSE_RANGE_CLOEXEC));
    say("getfd", fcntl(10, F_GETFD));
    say("close_range", syscall(SYS_close_range, 3, ~0u, 0));
    say("gone", fcntl(10, F_GETFD));
    say("close_range bad", syscall(SYS_close_range, 5, 3, 0));
    say("close twice", close(10));
    say("lowest", dup(0));
}
