/* What everybody reads in /proc/PID/cmdline, comm and exe's absence: a process is found by its arguments (pgrep -f).
 * Another process showed the command line of what runs it. */
#include "facts.h"
static void show(const char *what, pid_t pid) {
    char path[64], b[4096];
    sprintf(path, "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY);
    long n = read(fd, b, sizeof b);
    close(fd);
    printf("%s: %ld bytes:", what, n);
    for (long i = 0; i < n; i += strlen(b + i) + 1) printf(" [%s]", strrchr(b + i, '/') ? strrchr(b + i, '/') + 1 : b + i);
    sprintf(path, "/proc/%d/comm", pid);
    fd = open(path, O_RDONLY);
    n = read(fd, b, sizeof b);
    close(fd);
    printf(" %.*s", (int)n, b);
}
int main(int argc, char **argv) {
    if (argc > 1) {
        write(1, "", 0);
        char byte;
        write(atoi(argv[1]), "x", 1);
        read(atoi(argv[2]), &byte, 1);
        return 0;
    }
    begin();
    int up[2], down[2];
    char byte, one[16], two[16];
    pipe(up), pipe(down);
    sprintf(one, "%d", up[1]), sprintf(two, "%d", down[0]);
    pid_t forked = fork();
    if (!forked) { pause(); _exit(0); }
    show("forked", forked);
    kill(forked, SIGKILL);
    pid_t pid = fork();
    if (!pid) execl(argv[0], "another name", one, two, "--an-option", "", "last", NULL);
    read(up[0], &byte, 1);
    show("executed", pid);
    show("itself", getpid());
    write(down[1], "x", 1);
    int status;
    waitpid(pid, &status, 0);
    fact("status", status);
}
