/* fcntl and flock: flags, locks, seals, commands that do not exist. */
#include "facts.h"
#include <sys/file.h>
int main(void) {
    begin();
    int a = open("f", O_RDWR | O_CREAT, 0600), b = open("f", O_RDWR);
    say("getfl", fcntl(a, F_GETFL) & ~O_LARGEFILE);
    say("setfl", fcntl(a, F_SETFL, O_APPEND | O_NONBLOCK));
    say("getfl", fcntl(a, F_GETFL) & ~O_LARGEFILE);
    say("unknown", fcntl(a, 7777, 0));
    say("unknown closed", fcntl(99, 7777, 0));
    int p = open("f", O_PATH), n;
    say("unknown of a path", fcntl(p, 7777, 0));
    say("ioctl of a path", ioctl(p, FIONREAD, &n));
    say("unknown ioctl of a path", ioctl(p, 0x12345678, &n));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    say("ofd setlk", fcntl(a, F_OFD_SETLK, &l));
    say("ofd setlk other", fcntl(b, F_OFD_SETLK, &l));
    struct flock q = l;
    say("ofd getlk", fcntl(b, F_OFD_GETLK, &q));
    printf("type %d start %ld len %ld pid %d\n", q.l_type, (long)q.l_start, (long)q.l_len, q.l_pid);
    l.l_type = F_UNLCK;
    say("ofd unlock", fcntl(a, F_OFD_SETLK, &l));
    l.l_type = F_WRLCK;
    say("setlk", fcntl(a, F_SETLK, &l));
    if (fork() == 0) {
        say("child setlk", fcntl(b, F_SETLK, &l));
        q = l;
        fcntl(b, F_GETLK, &q);
        fact("owner is parent", q.l_pid == getppid());
        _exit(0);
    }
    wait(NULL);
    l.l_type = 9;
    say("bad type", fcntl(a, F_SETLK, &l));
    say("wild", syscall(SYS_fcntl, a, F_SETLK, WILD));
    say("flock", flock(a, LOCK_EX));
    say("flock other", flock(b, LOCK_EX | LOCK_NB));
    say("flock unlock", flock(a, LOCK_UN));
    say("flock shared", flock(b, LOCK_SH | LOCK_NB));
    say("flock bad", flock(a, 77));
    say("setown", fcntl(a, F_SETOWN, getpid()));
    fact("getown", fcntl(a, F_GETOWN) == getpid());
    say("setown group", fcntl(a, F_SETOWN, -getpgrp()));
    fact("getown group", fcntl(a, F_GETOWN) == -getpgrp());
    fcntl(a, F_SETOWN, getpid());
    struct f_owner_ex o;
    say("getown_ex", fcntl(a, F_GETOWN_EX, &o));
    fact("owner", o.pid == getpid());
    int m = ok("memfd", memfd_create("m", MFD_ALLOW_SEALING | MFD_CLOEXEC));
    say("ftruncate", ftruncate(m, 100));
    say("add seals", fcntl(m, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE));
    say("get seals", fcntl(m, F_GET_SEALS) & 15);
    say("shrink", ftruncate(m, 10));
    say("grow", ftruncate(m, 200));
    say("write", write(m, "x", 1));
    say("seals of a file", fcntl(a, F_GET_SEALS));
    say("memfd bad flag", memfd_create("m", 0x4000));
    char name[400]; memset(name, 'n', 399); name[399] = 0;
    say("memfd long name", memfd_create(name, 0));
    unlink("f");
}
