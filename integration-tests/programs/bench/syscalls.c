// Costs of system calls for `cargo xtask bench`: `syscalls NAME` prints nanoseconds per operation, measured inside.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static char buffer[4096];
static int zero, null;
static void op_getpid(void) { syscall(SYS_getpid); }
static void op_read(void) { read(zero, buffer, sizeof buffer); }
static void op_write(void) { write(null, buffer, sizeof buffer); }
static void op_open(void) {
    struct stat st;
    int fd = open("/etc/passwd", O_RDONLY);
    fstat(fd, &st);
    close(fd);
}
static void op_fork(void) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    waitpid(pid, NULL, 0);
}
static int ping[2], pong[2];
static void op_pingpong(void) {
    write(ping[1], buffer, 1);
    read(pong[0], buffer, 1);
}
static void op_exec(void) {
    pid_t pid = fork();
    if (pid == 0) {
        execl("/usr/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

static double measure(void (*op)(void), int n) {
    for (int i = 0; i < n / 10 + 1; i++) op();
    double t = now();
    for (int i = 0; i < n; i++) op();
    return (now() - t) / n;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    double ns;
    if (!strcmp(name, "getpid")) ns = measure(op_getpid, 1000000);
    else if (!strcmp(name, "read4k")) ns = measure(op_read, 300000);
    else if (!strcmp(name, "write4k")) ns = measure(op_write, 300000);
    else if (!strcmp(name, "open+fstat+close")) ns = measure(op_open, 100000);
    else if (!strcmp(name, "fork+wait")) ns = measure(op_fork, 500);
    else if (!strcmp(name, "fork+exec+wait")) ns = measure(op_exec, 200);
    else if (!strcmp(name, "pipe ping-pong")) {
        pipe(ping), pipe(pong);
        pid_t pid = fork();
        if (pid == 0) {
            close(ping[1]);
            for (;;) {
                if (read(ping[0], buffer, 1) != 1) _exit(0);
                write(pong[1], buffer, 1);
            }
        }
        close(ping[0]);
        ns = measure(op_pingpong, 20000);
        close(ping[1]);
        waitpid(pid, NULL, 0);
    } else {
        return 2;
    }
    printf("%.1f\n", ns);
}
