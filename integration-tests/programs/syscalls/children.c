/* fork, vfork, wait statuses, process groups, orphans' exit codes, SIGCHLD. */
#include "facts.h"
#include <spawn.h>
#include <sys/resource.h>
static volatile int chld;
static void on(int s) { (void)s; chld++; }
static void report(const char *what, int status) {
    printf("%s: exited %d code %d signaled %d sig %d stopped %d continued %d\n", what, WIFEXITED(status), WIFEXITED(status) ? WEXITSTATUS(status) : 0,
           WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFSTOPPED(status), WIFCONTINUED(status));
}
int main(void) {
    begin();
    int status, shared = 1;
    signal(SIGCHLD, on);
    pid_t pid = fork();
    if (!pid) { shared = 2; _exit(300); }
    say("waited", waitpid(pid, &status, 0) == pid);
    report("exit", status);
    fact("own memory", shared);
    fact("SIGCHLD", chld > 0);
    pid = fork();
    if (!pid) { raise(SIGTERM); _exit(1); }
    waitpid(pid, &status, 0);
    report("killed", status);
    /* It must not have ended before somebody sees that it goes on. */
    int seen[2];
    char byte = 0;
    pipe(seen);
    pid = fork();
    if (!pid) { raise(SIGSTOP); read(seen[0], &byte, 1); _exit(4); }
    waitpid(pid, &status, WUNTRACED);
    report("stopped", status);
    kill(pid, SIGCONT);
    waitpid(pid, &status, WCONTINUED);
    report("continued", status);
    write(seen[1], &byte, 1);
    close(seen[0]), close(seen[1]);
    waitpid(pid, &status, 0);
    report("then", status);
    pid = fork();
    if (!pid) { *(volatile int *)16 = 1; _exit(1); }
    waitpid(pid, &status, 0);
    report("fault", status & 0x7f);
    volatile int told = 0;
    pid = vfork();
    if (!pid) { told = 5; _exit(6); }
    fact("vfork told", told);
    siginfo_t info;
    struct rusage use;
    say("waitid", syscall(SYS_waitid, P_PID, pid, &info, WEXITED, &use));
    printf("code %d status %d\n", info.si_code, info.si_status);
    say("nobody left", wait(&status));
    char *args[] = {"none", NULL};
    fact("spawn missing", posix_spawn(&pid, "/does/not/exist", NULL, NULL, args, args + 1));
    fact("spawn directory", posix_spawn(&pid, "/", NULL, NULL, args, args + 1));
    fact("own group", getpgrp() == getpgid(0));
    pid = fork();
    if (!pid) { setpgid(0, 0); _exit(getpgrp() == getpid() ? 0 : 1); }
    waitpid(pid, &status, 0);
    report("group", status);
    pid = fork();
    if (!pid) { pid_t s = setsid(); _exit(s == getpid() && getsid(0) == s ? 0 : 1); }
    waitpid(pid, &status, 0);
    report("session", status);
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (!pid) _exit(0);
    say("ignored children are not waited for", waitpid(pid, &status, 0));
    say("fork tree", 0);
    for (int i = 0; i < 3; i++) if (!fork()) { usleep(1000); }
    if (getpid() != getpgrp() && 0) _exit(0);
    while (wait(NULL) > 0) {}
    _exit(0);
}
