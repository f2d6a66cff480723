/* open, openat, openat2, creat, umask: flags, modes, errors. */
#include "facts.h"
#include <linux/openat2.h>
static long mode(const char *p) { struct stat s; return stat(p, &s) ? -1 : s.st_mode & 07777; }
int main(void) {
    begin();
    umask(027);
    int fd = ok("creat", creat("f", 0666));
    printf("mode %lo\n", mode("f"));
    say("old umask", umask(0));
    ok("excl", open("f", O_CREAT | O_EXCL | O_WRONLY, 0600));
    ok("missing", open("none", O_RDONLY));
    ok("empty", open("", O_RDONLY));
    ok("through file", open("f/x", O_RDONLY));
    ok("directory flag", open("f", O_RDONLY | O_DIRECTORY));
    ok("write dir", open(".", O_WRONLY));
    symlink("f", "l"); symlink("loop", "loop");
    ok("nofollow", open("l", O_RDONLY | O_NOFOLLOW));
    ok("loop", open("loop", O_RDONLY));
    char *longname = malloc(5000); memset(longname, 'a', 4999); longname[4999] = 0;
    ok("long path", open(longname, O_RDONLY)); longname[300] = 0;
    ok("long name", open(longname, O_RDONLY));
    ok("null", syscall(SYS_open, NULL, O_RDONLY));
    ok("wild", syscall(SYS_open, WILD, O_RDONLY));
    int dir = ok("dir", open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    say("cloexec", fcntl(dir, F_GETFD));
    ok("openat", openat(dir, "f", O_RDWR));
    ok("openat bad fd", openat(99, "f", O_RDWR));
    ok("openat file fd", openat(fd, "f", O_RDWR));
    ok("openat absolute", openat(99, "/dev/null", O_RDWR));
    int p = ok("path", open("f", O_PATH));
    char b[4];
    say("read path", read(p, b, 1));
    say("flags", fcntl(p, F_GETFL) & (O_PATH | O_ACCMODE));
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_NO_SYMLINKS};
    ok("openat2 symlink", syscall(SYS_openat2, dir, "l", &how, sizeof how));
    how.resolve = RESOLVE_BENEATH;
    ok("openat2 beneath", syscall(SYS_openat2, dir, "../x", &how, sizeof how));
    ok("openat2 plain", syscall(SYS_openat2, dir, "f", &how, sizeof how));
    ok("openat2 small", syscall(SYS_openat2, dir, "f", &how, 8));
    how.flags = 1ull << 60;
    ok("openat2 flags", syscall(SYS_openat2, dir, "f", &how, sizeof how));
    say("close_range with a table of one's own", syscall(SYS_close_range, 900, 1000, 2));
    say("close_range of nothing", syscall(SYS_close_range, 1000, 900, 0));
    say("close_range flags", syscall(SYS_close_range, 900, 1000, 64));
    ok("trunc", open("f", O_WRONLY | O_TRUNC));
    unlink("f"); unlink("l"); unlink("loop");
}
