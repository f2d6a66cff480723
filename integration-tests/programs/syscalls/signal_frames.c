/* Handlers: arguments, masks, nesting, the alternate stack, flags, what siglongjmp and changed contexts do. */
#include "facts.h"
#include <setjmp.h>
#include <ucontext.h>
static volatile int depth, seen[70];
static sigjmp_buf back;
static char other[65536];
static void nested(int s, siginfo_t *i, void *c) {
    ucontext_t *u = c;
    seen[s]++;
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("signal %d code %d own pid %d blocked %d saved %d\n", s, i->si_code, i->si_pid == getpid(), sigismember(&now, s), sigismember(&u->uc_sigmask, s));
    if (depth++ < 2) raise(s == SIGUSR1 ? SIGUSR2 : SIGUSR1);
}
static void on_stack(int s) { char here; printf("alternate %d\n", &here >= other && &here < other + sizeof other); (void)s; }
static void jump(int s) { siglongjmp(back, s); }
static void skip(int s, siginfo_t *i, void *c) {
    ucontext_t *u = c;
    (void)s;
    fact("address", (long)i->si_addr);
    u->uc_mcontext.gregs[REG_RAX] = 77;
    siglongjmp(back, 1);
}
int main(void) {
    begin();
    struct sigaction a = {.sa_sigaction = nested, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    sigaction(SIGUSR2, &a, NULL);
    raise(SIGUSR1);
    fact("one", seen[SIGUSR1]);
    fact("two", seen[SIGUSR2]);
    union sigval v = {.sival_int = 42};
    depth = 9;
    say("queue", sigqueue(getpid(), SIGUSR1, v));
    stack_t st = {.ss_sp = other, .ss_size = sizeof other};
    say("sigaltstack", sigaltstack(&st, NULL));
    struct sigaction b = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK | SA_RESETHAND | SA_NODEFER};
    sigaction(SIGHUP, &b, NULL);
    raise(SIGHUP);
    sigaction(SIGHUP, NULL, &b);
    fact("reset", b.sa_handler == SIG_DFL);
    struct sigaction j = {.sa_handler = jump};
    sigaction(SIGTERM, &j, NULL);
    for (int n = 0; n < 3; n++)
        if (sigsetjmp(back, 1) == 0) raise(SIGTERM);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    fact("blocked after jump", sigismember(&now, SIGTERM));
    struct sigaction f = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &f, NULL);
    if (sigsetjmp(back, 1) == 0) *(volatile int *)8 = 1;
    st.ss_flags = 77;
    say("bad flags", sigaltstack(&st, NULL));
    st.ss_flags = 0; st.ss_size = 10;
    say("too small", sigaltstack(&st, NULL));
    say("bad signal", sigaction(SIGKILL, &a, NULL));
    say("bad signal", syscall(SYS_rt_sigaction, 65, NULL, NULL, 8));
    say("bad size", syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4));
}
