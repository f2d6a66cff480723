/* A guest that may read its caller's terminal is in its caller's process group, which pid namespaces do not cut: kill(0), and what else takes a group, reach processes of the host. The suite starts it so, and looks whether its
 * own script got a signal or another priority. */
#include "attack.h"
#include <sys/resource.h>
#define PROCESS_GROUP 4 /* PIDFD_SIGNAL_PROCESS_GROUP */
static void attack(void) {
    signal(SIGUSR1, SIG_IGN);
    note("own group is %d", getpgrp());
    kill(0, SIGUSR1); killpg(0, SIGUSR1); kill(-getpgrp(), SIGUSR1);
    int self = MUST(syscall(SYS_pidfd_open, getpid(), 0));
    syscall(SYS_pidfd_send_signal, self, SIGUSR1, NULL, PROCESS_GROUP);
    syscall(SYS_rt_sigqueueinfo, 0, SIGUSR1, &(siginfo_t){.si_code = -1});
    setpriority(PRIO_PGRP, 0, 7);
    usleep(100000);
}
static volatile sig_atomic_t got;
static void on(int s) { (void)s; got++; }
static void twin(void) {
    /* Its own processes a guest may signal as a group. (A namespace's first process must not be in another's group when it ends: first_in_anothers_group.) */
    pid_t leader = MUST(fork());
    if (leader == 0) {
        struct sigaction a = {.sa_handler = on};
        sigaction(SIGUSR2, &a, NULL);
        MUST(setpgid(0, 0));
        pid_t member = MUST(fork());
        if (member == 0) {
            while (!got) usleep(1000);
            _exit(5);
        }
        MUST(kill(0, SIGUSR2));
        int status;
        MUST(waitpid(member, &status, 0));
        _exit(got && status == 5 << 8 ? 0 : 4);
    }
    int status;
    MUST(waitpid(leader, &status, 0));
    if (status) exit(4);
}
