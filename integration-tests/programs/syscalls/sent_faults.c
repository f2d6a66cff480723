/* SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGTRAP that somebody sends are signals like others: blocked, they wait.
 * They were delivered at once, because faults raise them too. A fault while its signal is blocked ends the process. */
#include "facts.h"
#include <time.h>
static volatile int caught, count, code;
static void on(int s, siginfo_t *i, void *c) { caught = s, code = i->si_code, count++; }
static long pending(int s) { sigset_t p; sigpending(&p); return sigismember(&p, s); }
static void fault(void) { *(volatile int *)16 = 1; }
static void unblocked_by_default(void) {
    signal(SIGSEGV, SIG_DFL);
    kill(getpid(), SIGSEGV);
    sigset_t none;
    sigemptyset(&none);
    _exit(pending(SIGSEGV) == 1 ? (sigprocmask(SIG_SETMASK, &none, NULL), 8) : 7);
}
static void inherited(void) { _exit(pending(SIGSEGV)); }
int main(void) {
    begin();
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    sigset_t set, none, one;
    sigemptyset(&none), sigemptyset(&set);
    struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &a, NULL), sigaddset(&set, signals[i]);
    for (int i = 0; i < 5; i++) {
        int s = signals[i];
        caught = count = 0;
        say("kill", kill(getpid(), s));
        printf("%d: caught %d, %d times, code %d\n", s, caught, count, code);
    }
    /* With a code that only the kernel gives to others. */
    pid_t another = fork();
    if (!another) for (;;) pause();
    for (int i = 0; i < 5; i++) {
        siginfo_t info = {.si_signo = signals[i], .si_code = SEGV_MAPERR};
        caught = count = 0;
        say("to itself", syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signals[i], &info));
        printf("caught %d, %d times, code %d\n", caught, count, code);
        say("by its process", syscall(SYS_rt_sigqueueinfo, getpid(), signals[i], &info));
        printf("caught %d, %d times, code %d\n", caught, count, code);
        int self = syscall(SYS_pidfd_open, getpid(), 0), other = syscall(SYS_pidfd_open, another, 0);
        say("by a descriptor", syscall(SYS_pidfd_send_signal, self, signals[i], &info, 0));
        printf("caught %d, %d times, code %d\n", caught, count, code);
        say("to another", syscall(SYS_rt_sigqueueinfo, another, signals[i], &info));
        say("to another by a descriptor", syscall(SYS_pidfd_send_signal, other, signals[i], &info, 0));
        close(self), close(other);
    }
    kill(another, SIGKILL), waitpid(another, NULL, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < 5; i++) {
        int s = signals[i];
        caught = count = 0;
        kill(getpid(), s), kill(getpid(), s);
        printf("%d: caught %d, pending %ld\n", s, caught, pending(s));
        sigemptyset(&one), sigaddset(&one, s);
        sigprocmask(SIG_UNBLOCK, &one, NULL);
        printf("%d: caught %d, %d times, pending %ld\n", s, caught, count, pending(s));
        sigprocmask(SIG_BLOCK, &one, NULL);
        siginfo_t info;
        union sigval v = {.sival_int = 5};
        sigqueue(getpid(), s, v);
        count = 0;
        fact("waited", sigwaitinfo(&one, &info) == s);
        printf("%d: code %d value %d, %d times\n", s, info.si_code, info.si_value.sival_int, count);
        struct timespec zero = {0, 1000};
        say("no more", sigtimedwait(&one, &info, &zero));
    }
    for (int i = 0; i < 5; i++) {
        caught = 0;
        raise(signals[i]);
        say("sigsuspend", sigsuspend(&none));
        fact("caught", caught);
    }
    caught = 0;
    raise(SIGSEGV), raise(SIGBUS);
    in_child("a child inherits none", inherited);
    printf("pending %ld %ld\n", pending(SIGSEGV), pending(SIGBUS));
    signal(SIGSEGV, SIG_IGN);
    fact("ignored is discarded", !pending(SIGSEGV));
    sigaction(SIGSEGV, &a, NULL);
    count = 0;
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("caught %d, %d times\n", caught, count);
    sigprocmask(SIG_BLOCK, &set, NULL);
    in_child("a fault", fault);
    in_child("unblocked with no handler", unblocked_by_default);
    pid_t pid = fork();
    if (!pid) {
        sigprocmask(SIG_SETMASK, &set, NULL);
        char b;
        int p[2];
        pipe(p);
        if (fork() == 0) { usleep(50000); kill(getppid(), SIGSEGV); usleep(50000); write(p[1], "x", 1); _exit(0); }
        long n = read(p[0], &b, 1);
        _exit(n == 1 && pending(SIGSEGV) ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    fact("a read goes on", status);
    sigaction(SIGUSR1, &a, NULL);
    pid = fork();
    if (!pid) { usleep(50000); kill(getppid(), SIGSEGV); usleep(50000); kill(getppid(), SIGUSR1); _exit(0); }
    caught = 0;
    say("a wait for others goes on", sigsuspend(&set));
    printf("caught %d, pending %ld\n", caught, pending(SIGSEGV));
    waitpid(pid, &status, 0);
}
