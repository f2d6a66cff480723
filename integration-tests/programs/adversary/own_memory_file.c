/* /proc/self/mem by every name: the file would read, and where procfs is writable write, the runtime's own memory. */
#include "attack.h"
static void use(const char *how, int fd) {
    char bytes[64];
    if (fd < 0) return;
    /* Of the guest's own memory, too: natively these work. */
    if (pread(fd, bytes, sizeof bytes, (off_t)(uintptr_t)&tries) > 0) won("%s: memory was read", how);
    if (pwrite(fd, &tries, sizeof tries, (off_t)(uintptr_t)&tries) > 0) won("%s: memory was written", how);
    close(fd);
}
static void *own_thread(void *unused) {
    (void)unused;
    char path[64];
    for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
        snprintf(path, sizeof path, "/proc/self/task/%ld/mem", syscall(SYS_gettid));
        use("of a thread", open(path, flags | O_CLOEXEC));
        use("of this thread", open("/proc/thread-self/mem", flags | O_CLOEXEC));
    }
    return NULL;
}
/* Run once more from a place of its own, where a link to the file then lies: /proc/self/exe must not lead there. */
static void from_its_own_place(void) {
    MUST(unlink("/tmp/own"));
    MUST(symlink("/proc/self/mem", "/tmp/own"));
    use("in the program's place", open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    int named = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", named);
    use("in the program's place, by name", open(path, O_RDONLY | O_CLOEXEC));
    _exit(0);
}
static void attack(void) {
    if (tries < 0) from_its_own_place();
    copy("/proc/self/exe", "/tmp/own", 0755);
    char *argv[] = {"/tmp/own", "attack", "-1", NULL};
    execute_at(AT_FDCWD, "/tmp/own", argv, environ, 0, ASKS);
    char path[64];
    struct { uint64_t flags, mode, resolve; } how = {O_RDONLY | O_CLOEXEC, 0, 0};
    for (int flags = O_RDONLY; flags <= O_RDWR; flags++) {
        use("plain", open("/proc/self/mem", flags | O_CLOEXEC));
        snprintf(path, sizeof path, "/proc/%d/mem", getpid());
        use("by number", open(path, flags | O_CLOEXEC));
        int dir = MUST(open("/proc/self", O_PATH | O_CLOEXEC));
        use("below a directory", openat(dir, "mem", flags | O_CLOEXEC));
        unlink("/tmp/link");
        MUST(symlink("/proc/self/mem", "/tmp/link"));
        use("by a link", open("/tmp/link", flags | O_CLOEXEC));
        int named = open("/proc/self/mem", O_PATH | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", named);
        use("reopened", open(path, flags | O_CLOEXEC));
        use("created", open("/proc/self/mem", flags | O_CREAT | O_CLOEXEC, 0600));
        use("not followed", open("/proc/self/mem", flags | O_NOFOLLOW | O_CLOEXEC));
        how.flags = flags | O_CLOEXEC;
        use("openat2", syscall(SYS_openat2, AT_FDCWD, "/proc/self/mem", &how, sizeof how));
        use("root's", open("/proc/self/root/proc/self/mem", flags | O_CLOEXEC));
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, own_thread, NULL)) exit(3);
    pthread_join(thread, NULL);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        snprintf(path, sizeof path, "/proc/%d/mem", getppid());
        use("of the parent", open(path, O_RDONLY | O_CLOEXEC));
        _exit(0);
    }
    MUST(waitpid(pid, NULL, 0));
}
static void twin(void) {
    char text[256] = "";
    int fd = MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    if (read(fd, text, sizeof text - 1) <= 0 || strncmp(text, "Name:", 5)) exit(4);
}
