/* stat, lstat, fstat, newfstatat, statx, statfs, chmod: types, sizes, counts. */
#include "facts.h"
#include <sys/vfs.h>
static void show(const char *what, int r, struct stat *s) {
    if (say(what, r) == 0) printf("  mode %o links %ld size %ld\n", s->st_mode, (long)s->st_nlink, S_ISDIR(s->st_mode) ? 0L : (long)s->st_size);
}
int main(void) {
    begin();
    umask(022);
    struct stat s;
    int fd = open("f", O_RDWR | O_CREAT, 0640);
    write(fd, "12345", 5);
    symlink("f", "l"); link("f", "h"); mkfifo("p", 0600); symlink("none", "dangling");
    show("stat f", stat("f", &s), &s);
    show("stat l", stat("l", &s), &s);
    show("lstat l", lstat("l", &s), &s);
    show("lstat dangling", lstat("dangling", &s), &s);
    show("stat dangling", stat("dangling", &s), &s);
    show("stat p", stat("p", &s), &s);
    show("fstat", fstat(fd, &s), &s);
    show("fstat closed", fstat(99, &s), &s);
    show("empty path", fstatat(fd, "", &s, AT_EMPTY_PATH), &s);
    show("empty path no flag", fstatat(fd, "", &s, 0), &s);
    show("bad flag", fstatat(fd, "f", &s, 0x8000), &s);
    show("through file", stat("f/", &s), &s);
    say("wild buffer", syscall(SYS_stat, "f", WILD));
    say("wild path", syscall(SYS_stat, WILD, &s));
    stat("/dev/null", &s);
    printf("null %o %lx\n", s.st_mode & S_IFMT, (long)s.st_rdev);
    struct statx x;
    say("statx", statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    printf("mask %x mode %o size %lld\n", x.stx_mask & STATX_BASIC_STATS, x.stx_mode, (long long)x.stx_size);
    say("statx flags", statx(AT_FDCWD, "f", 0x80000000, 0, &x));
    say("statx wild", syscall(SYS_statx, AT_FDCWD, "f", 0, 0, WILD));
    struct statfs v;
    say("statfs", statfs("f", &v));
    fact("name length", v.f_namelen);
    say("statfs missing", statfs("none", &v));
    say("fstatfs proc", fstatfs(open("/proc", O_RDONLY), &v));
    printf("type %lx\n", (long)v.f_type);
    say("chmod", chmod("f", 0604));
    say("fchmod", fchmod(fd, 04604));
    show("stat f", stat("f", &s), &s);
    say("fchmodat", fchmodat(AT_FDCWD, "f", 0600, 0));
    say("chmod missing", chmod("none", 0));
    say("chown same", chown("f", -1, -1));
    say("lchown dangling", lchown("dangling", -1, -1));
    say("chown dangling", chown("dangling", -1, -1));
    unlink("f"); unlink("l"); unlink("h"); unlink("p"); unlink("dangling");
}
