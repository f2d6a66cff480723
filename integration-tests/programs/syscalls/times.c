/* utimensat, futimens, utimes, utime, futimesat: what is set and what is left. */
#include "facts.h"
#include <sys/time.h>
#include <utime.h>
static void show(const char *p) {
    struct stat s;
    lstat(p, &s);
    printf("  %ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}
int main(void) {
    begin();
    int fd = creat("f", 0600);
    symlink("f", "l");
    struct timespec t[2] = {{100, 5}, {200, 6}};
    say("utimensat", utimensat(AT_FDCWD, "f", t, 0)); show("f");
    t[0].tv_nsec = UTIME_OMIT; t[1].tv_sec = 300;
    say("omit", utimensat(AT_FDCWD, "f", t, 0)); show("f");
    t[0] = (struct timespec){7, 0};
    say("nofollow", utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW)); show("l"); show("f");
    say("futimens", futimens(fd, t)); show("f");
    t[0].tv_nsec = -5;
    say("bad nsec", utimensat(AT_FDCWD, "f", t, 0));
    say("wild", syscall(SYS_utimensat, AT_FDCWD, "f", WILD, 0));
    say("missing", utimensat(AT_FDCWD, "none", NULL, 0));
    struct timeval v[2] = {{11, 12}, {13, 14}};
    say("utimes", syscall(SYS_utimes, "f", v)); show("f");
    v[0].tv_usec = 1000000;
    say("bad usec", syscall(SYS_utimes, "f", v));
    v[0].tv_usec = 0;
    say("futimesat", syscall(SYS_futimesat, AT_FDCWD, "f", v)); show("f");
    struct utimbuf u = {21, 22};
    say("utime", syscall(SYS_utime, "f", &u)); show("f");
    say("utime now", syscall(SYS_utime, "f", NULL));
    unlink("f"); unlink("l");
}
