/* More refused calls than the ring between worker and supervisor holds, from several processes, and some that are killed in the middle: each is in the audit log, or counted as dropped. */
#include "attack.h"
static void flood(int kill_some) {
    pid_t pids[8];
    for (int i = 0; i < 8; i++) {
        pids[i] = MUST(fork());
        if (pids[i]) continue;
        for (long n = 0; n < tries; n++) {
            refused("ptrace", syscall(SYS_ptrace, 0, 0, 0, 0));
            shared->told++;
        }
        _exit(0);
    }
    if (kill_some) { usleep(2000); kill(pids[0], SIGKILL); kill(pids[1], SIGKILL); printf("told-uncounted\n"); }
    for (int i = 0; i < 8; i++) MUST(waitpid(pids[i], NULL, 0));
}
static void attack(void) { flood(0); }
static void twin(void) { pid_t pid = MUST(fork()); if (pid == 0) _exit(0); MUST(waitpid(pid, NULL, 0)); MUST(getppid()); }
