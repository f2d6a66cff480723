/* mkdir, rmdir, getdents64, getcwd, chdir, fchdir, mknod of fifos. */
#include "facts.h"
#include <dirent.h>
static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
int main(void) {
    begin();
    umask(022);
    char b[4096];
    say("mkdir", mkdir("d", 0777));
    say("mkdir again", mkdir("d", 0777));
    say("mkdir no parent", mkdir("x/y", 0777));
    say("mkdirat", mkdirat(AT_FDCWD, "d/e", 0700));
    say("rmdir full", rmdir("d"));
    say("rmdir file", (close(creat("f", 0600)), rmdir("f")));
    say("rmdir dot", rmdir("d/e/."));
    say("mknod fifo", mknod("d/p", S_IFIFO | 0600, 0));
    say("mknod fifo by its old number", syscall(SYS_mknod, "d/q", S_IFIFO | 0600, 0));
    fact("a fifo", (close(open("d/q", O_RDWR | O_NONBLOCK)), unlink("d/q")) == 0);
    say("mknod file", mknod("d/f", S_IFREG | 0600, 0));
    say("mknodat exists", mknodat(AT_FDCWD, "d/f", S_IFREG | 0600, 0));
    struct dirent **list;
    int n = say("scandir", scandir("d", &list, NULL, by_name));
    for (int i = 0; i < n; i++) printf("  %s %d\n", list[i]->d_name, list[i]->d_type);
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    say("getdents small", syscall(SYS_getdents64, fd, b, 4));
    say("getdents wild", syscall(SYS_getdents64, fd, WILD, 4096));
    ok("getdents", syscall(SYS_getdents64, fd, b, sizeof b));
    say("getdents end", syscall(SYS_getdents64, fd, b, sizeof b));
    say("getdents file", syscall(SYS_getdents64, open("f", O_RDONLY), b, sizeof b));
    ok("getdents old", (lseek(fd, 0, SEEK_SET), syscall(SYS_getdents, fd, b, sizeof b)));
    say("chdir", chdir("d"));
    ok("getcwd", syscall(SYS_getcwd, b, sizeof b));
    printf("%s\n", strrchr(b, '/'));
    say("getcwd small", syscall(SYS_getcwd, b, 2));
    say("getcwd wild", syscall(SYS_getcwd, WILD, 4096));
    say("chdir file", chdir("f"));
    say("chdir missing", chdir("none"));
    int up = open("..", O_RDONLY);
    say("fchdir", fchdir(up));
    say("fchdir closed", fchdir(99));
    say("fchdir file", fchdir(open("f", O_RDONLY)));
    say("unlinkat dir", unlinkat(AT_FDCWD, "d/e", AT_REMOVEDIR));
    say("unlinkat dir without flag", unlinkat(AT_FDCWD, "d", 0));
    unlink("d/p"); unlink("d/f"); unlink("f");
    chdir("d");
    say("rmdir here", rmdir("../d"));
    say("getcwd gone", getcwd(b, sizeof b) ? 0 : -1);
    chdir("..");
}
