/* access, faccessat, faccessat2: X_OK from mode bits, also where the container's mounts are noexec. */
#include "facts.h"
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
static void ask(const char *p) {
    printf("%s:\n", p);
    say("  F_OK", access(p, F_OK));
    say("  R_OK", access(p, R_OK));
    say("  X_OK", access(p, X_OK));
    say("  R_OK|X_OK", access(p, R_OK | X_OK));
    say("  AT_EACCESS", syscall(SYS_faccessat2, AT_FDCWD, p, X_OK, AT_EACCESS));
}
int main(void) {
    begin();
    close(creat("plain", 0644));
    close(creat("program", 0755));
    close(creat("other", 0645));
    chmod("other", 0645);
    mkdir("dir", 0755);
    symlink("program", "link");
    symlink("none", "dangling");
    ask("plain"); ask("program"); ask("dir"); ask("link"); ask("dangling"); ask("none"); ask("program/x"); ask("");
    ask("/bin/sh"); ask("/etc/passwd"); ask("/proc/self/status");
    say("bad mode", access("plain", 64));
    say("bad flag", syscall(SYS_faccessat2, AT_FDCWD, "plain", X_OK, 0x10));
    say("nofollow", syscall(SYS_faccessat2, AT_FDCWD, "link", F_OK, AT_SYMLINK_NOFOLLOW));
    int fd = open("program", O_PATH);
    say("empty path", syscall(SYS_faccessat2, fd, "", X_OK, AT_EMPTY_PATH));
    say("bad fd", faccessat(99, "plain", X_OK, 0));
    say("wild", syscall(SYS_access, WILD, X_OK));
    unlink("plain"); unlink("program"); unlink("other"); rmdir("dir"); unlink("link"); unlink("dangling");
}
