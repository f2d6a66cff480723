/* Everything a signal can do to the container's first process and, by numbers, to the supervisor: afterwards execs are still decided, and the container still ends when its supervisor ends (which other tests try). */
#include "attack.h"
static void attack(void) {
    pid_t pid = MUST(fork());
    if (pid == 0) {
        for (int signal = 1; signal < 65; signal++) {
            if (signal == SIGKILL || signal == SIGSTOP) { kill(1, signal); continue; }
            for (pid_t other = 2; other < 40; other++) if (other != getpid()) kill(other, signal);
            syscall(SYS_rt_sigqueueinfo, 1, signal, &(siginfo_t){.si_code = SI_KERNEL});
            syscall(SYS_tgkill, 1, 1, 0);
        }
        /* Nobody else is there: what is not in the namespace cannot be named. */
        for (pid_t other = 2; other < 32768; other++) if (other != getpid() && kill(other, 0) == 0) won("process %d is in sight", other);
        refused("kill of the parent's parent", kill(-getppid() - 1, SIGKILL));
        _exit(0);
    }
    for (int signal = 1; signal < 65; signal++) if (signal != SIGCHLD) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    prctl(PR_SET_PDEATHSIG, 0); prctl(PR_SET_DUMPABLE, 1);
    MUST(waitpid(pid, NULL, 0));
    no_program(CANARY, ASKS);
}
static void twin(void) {
    pid_t pid = MUST(fork());
    if (pid == 0) for (;;) pause();
    MUST(kill(pid, SIGTERM));
    MUST(waitpid(pid, NULL, 0));
    program(GOOD);
}
