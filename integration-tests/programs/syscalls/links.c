/* rename, renameat2, link, linkat, symlink, readlink, unlink. */
#include "facts.h"
int main(void) {
    begin();
    char b[4097] = {0};
    close(creat("a", 0600));
    say("rename", rename("a", "b"));
    say("rename missing", rename("a", "b"));
    say("link", link("b", "c"));
    say("link again", link("b", "c"));
    say("link missing", link("none", "d"));
    say("link dir", link(".", "d") == -1 && (errno == EPERM || errno == EACCES) ? 0 : 1);
    say("renameat2 noreplace", renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE));
    mkdir("dir", 0700);
    say("rename over dir", rename("b", "dir"));
    say("rename dir over file", rename("dir", "b"));
    say("rename into itself", rename("dir", "dir/x"));
    say("renameat2 flags", renameat2(AT_FDCWD, "b", AT_FDCWD, "c", 0x40));
    say("symlink", symlink("some/target", "l"));
    say("symlink again", symlink("x", "l"));
    say("symlink empty", symlink("", "e"));
    say("readlink", readlink("l", b, sizeof b));
    printf("%s\n", b);
    say("readlink short", readlink("l", b, 4));
    say("readlink zero", syscall(SYS_readlink, "l", b, 0));
    say("readlink negative", syscall(SYS_readlink, "l", b, -1));
    say("readlink file", readlink("b", b, 4));
    say("readlink missing", readlink("none", b, 4));
    say("readlink wild", syscall(SYS_readlink, "l", WILD, 16));
    int fd = open("l", O_PATH | O_NOFOLLOW);
    say("readlinkat empty", readlinkat(fd, "", b, sizeof b));
    say("linkat symlink", linkat(AT_FDCWD, "l", AT_FDCWD, "l2", 0));
    say("linkat follow", linkat(AT_FDCWD, "l", AT_FDCWD, "l3", AT_SYMLINK_FOLLOW));
    say("symlinkat bad fd", symlinkat("x", 99, "y"));
    int n = open("/dev/null", O_RDONLY);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", n);
    say("readlink fd", readlink(path, b, sizeof b));
    printf("%.9s\n", b);
    say("unlink", unlink("c"));
    say("unlink missing", unlink("c"));
    say("unlink slash", unlink("b/"));
    unlink("b"); unlink("l"); unlink("l2"); rmdir("dir");
}
