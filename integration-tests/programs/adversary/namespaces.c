/* Namespaces and mounts of one's own, by every call that makes or enters one (CVE-2022-0185, CVE-2022-0492, CVE-2023-0386 begin so). In children, so that nothing that works changes the attacker. */
#include "attack.h"
#include <linux/sched.h>
#include <sys/mount.h>
static void in_child(const char *what, long (*call)(long), long argument) {
    pid_t pid = MUST(fork());
    if (pid == 0) { refused(what, call(argument)); _exit(0); }
    MUST(waitpid(pid, NULL, 0));
}
static long by_unshare(long flag) { return syscall(SYS_unshare, flag); }
static long by_clone(long flag) {
    long pid = syscall(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return pid;
}
static long by_clone3(long flag) {
    struct clone_args a = {.flags = flag, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &a, sizeof a);
    if (pid == 0) _exit(0);
    return pid;
}
static long by_thread_flags(long flag) {
    /* Threads that share less than threads do. */
    static char stack[65536];
    long pid = syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | flag, stack + sizeof stack - 64, 0, 0, 0);
    if (pid == 0) syscall(SYS_exit, 0);
    return pid;
}
static long by_setns(long name) {
    static const char *names[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
    char path[64];
    snprintf(path, sizeof path, "/proc/1/ns/%s", names[name]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : syscall(SYS_setns, fd, 0);
}
static long by_pidfd(long flags) { return syscall(SYS_setns, syscall(SYS_pidfd_open, getppid(), 0), flags); }
static long of_mounts(long which) {
    switch (which) {
    case 0: return mount("none", "/tmp", "tmpfs", 0, NULL);
    case 1: return mount("/etc", "/tmp", NULL, MS_BIND, NULL);
    case 2: return mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND, NULL);
    case 3: return umount2("/proc", MNT_DETACH);
    case 4: return syscall(SYS_pivot_root, ".", ".");
    case 5: return chroot("/tmp");
    case 6: return syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* CLONE */);
    case 7: return syscall(SYS_fsopen, "tmpfs", 0);
    case 8: return syscall(SYS_fspick, AT_FDCWD, "/", 0);
    case 9: { char attr[32] = {1}; return syscall(442, AT_FDCWD, "/", 0, attr, 32); }
    case 10: return syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/mnt", 0);
    case 11: return mount("proc", "/tmp", "proc", 0, NULL);
    case 12: return mount("overlay", "/tmp", "overlay", 0, "lowerdir=/etc:/usr");
    case 13: return sethostname("x", 1);
    default: return -1;
    }
}
static void attack(void) {
    const long flags[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID};
    for (int i = 0; i < 8; i++) {
        in_child("unshare", by_unshare, flags[i]); in_child("clone", by_clone, flags[i]); in_child("clone3", by_clone3, flags[i]);
        in_child("setns of a pidfd", by_pidfd, flags[i]);
    }
    in_child("clone3 with a new time namespace", by_clone3, CLONE_NEWTIME);
    in_child("clone3 into a control group", by_clone3, 0x200000000);
    const long less[] = {0, CLONE_FILES, CLONE_FS, CLONE_NEWUSER | CLONE_FILES | CLONE_FS, CLONE_UNTRACED, CLONE_PTRACE | CLONE_FILES};
    for (int i = 0; i < 6; i++) in_child("clone of a thread that shares less", by_thread_flags, less[i]);
    in_child("unshare of descriptors", by_unshare, CLONE_FILES);
    for (int i = 0; i < 7; i++) in_child("setns", by_setns, i);
    for (int i = 0; i < 14; i++) { char what[32]; snprintf(what, sizeof what, "mount call %d", i); in_child(what, of_mounts, i); }
}
static void twin(void) {
    long pid = by_clone(0);
    if (pid <= 0 || waitpid(pid, NULL, 0) != pid) exit(4);
    pid = by_clone3(0);
    if (pid <= 0 || waitpid(pid, NULL, 0) != pid) exit(4);
    struct stat s;
    if (stat("/proc/self/ns/user", &s)) exit(4);
}
