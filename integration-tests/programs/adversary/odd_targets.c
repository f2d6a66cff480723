/* Things that are no programs, executed and mapped as libraries: pipes (an open of which waits), directories, devices, sockets, procfs and sysfs files, giant sparse files, files that never stop growing, files under a lease. None may hang the supervisor or run. */
#include "attack.h"
static int grower;
static void grow(void) { if (write(grower, "# more and more of it\n", 22) < 0) ftruncate(grower, 10); }
static void attack(void) {
    MUST(mkdir("/tmp/o", 0777)); MUST(chdir("/tmp/o"));
    MUST(mkfifo("fifo", 0777));
    struct sockaddr_un a = {AF_UNIX, "socket"};
    int s = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(bind(s, (struct sockaddr *)&a, sizeof a));
    MUST(symlink("loop", "loop"));
    const char *none[] = {"fifo", "socket", "loop", "/tmp/o", "/", "/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/proc/self/maps", "/proc/self/mem", "/proc/1/exe/", "/proc/self/fd", "/proc/version", "/proc/self/ns/user", "/proc/1/root", "/sys/kernel/uevent_seqnum", "/etc/passwd", "/proc/sys/kernel/core_pattern"};
    for (int i = 0; i < (int)(sizeof none / sizeof *none); i++) {
        no_program(none[i], SILENT);
        int fd = open(none[i], O_PATH | O_CLOEXEC);
        char *argv[] = {"x", NULL};
        if (fd >= 0 && execute_at(fd, "", argv, environ, AT_EMPTY_PATH, SILENT) == 0) won("%s ran by descriptor", none[i]);
        if (fd >= 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_DENYWRITE, fd, 0) != MAP_FAILED) won("%s was mapped as a library", none[i]);
        close(fd);
        fd = open(none[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_DENYWRITE, fd, 0) != MAP_FAILED) won("%s was mapped as a library", none[i]);
        close(fd);
    }
    /* /proc/1/exe is a regular file that root may execute: on the host side the runtime. */
    execute("/proc/1/exe", SILENT);
    const struct { const char *name, *head; off_t size; } giant[] = {{"sparse", "\177ELF", 1ll << 42}, {"script", "#!" GOOD "\n", 1ll << 42}, {"both", "", 1ll << 40}, {"line", "#!", 1ll << 40}, {"large", "#!" CANARY "\n", 15 << 20}};
    for (int i = 0; i < 5; i++) {
        int fd = MUST(open(giant[i].name, O_RDWR | O_CREAT | O_CLOEXEC, 0755));
        if (write(fd, giant[i].head, strlen(giant[i].head)) < 0) exit(3);
        if (ftruncate(fd, giant[i].size)) ftruncate(fd, 1ll << 33);
        close(fd);
        for (int j = 0; j < 10; j++) no_program(giant[i].name, ASKS);
    }
    grower = MUST(open("growing", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0755));
    if (write(grower, "#!" CANARY "\n", sizeof CANARY + 2) < 0) exit(3);
    pid_t pid = busy(grow);
    for (int i = 0; i < 200; i++) no_program("growing", ASKS);
    rest(pid);
    copy(CANARY, "leased", 0755);
    int lease = MUST(open("leased", O_RDWR | O_CLOEXEC));
    fcntl(lease, F_SETLEASE, F_WRLCK);
    signal(SIGIO, SIG_IGN);
    no_program("leased", ASKS);
}
static void twin(void) {
    MUST(mkdir("/tmp/o", 0777)); MUST(chdir("/tmp/o"));
    copy(GOOD, "file", 0755);
    int lease = MUST(open("file", O_RDONLY | O_CLOEXEC));
    fcntl(lease, F_SETLEASE, F_RDLCK);
    program("/tmp/o/file"); program("file");
}
