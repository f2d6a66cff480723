/* A signal whose frame has no room is SIGSEGV of the kernel's, which a handler with a stack of its own is told; so is a frame that sigreturn cannot read. Both ended the process. */
#include "facts.h"
#include <setjmp.h>
static char other[65536];
static sigjmp_buf back;
static void on_segv(int s, siginfo_t *i, void *c) {
    (void)c;
    printf("signal %d code %d address %ld\n", s, i->si_code, (long)i->si_addr);
    siglongjmp(back, 1);
}
static void on(int s) { printf("handled %d\n", s); }
/* kill(pid, signal) on a stack where nothing is. */
__attribute__((noinline)) static void kill_without_stack(long pid, long signal) {
    __asm__ volatile("mov %%rsp, %%r12; mov $0x11000, %%esp; mov $62, %%eax; syscall; mov %%r12, %%rsp" : : "D"(pid), "S"(signal) : "rax", "rcx", "r11", "r12", "memory");
}
__attribute__((noinline)) static void sigreturn_from_nowhere(void) {
    __asm__ volatile("mov %%rsp, %%r12; mov $0x11000, %%esp; mov $15, %%eax; syscall; mov %%r12, %%rsp" : : : "rax", "rcx", "r11", "r12", "memory");
}
static void uncaught(void) { signal(SIGSEGV, SIG_DFL), kill_without_stack(getpid(), SIGUSR1); }
static void ignored(void) { signal(SIGSEGV, SIG_IGN), kill_without_stack(getpid(), SIGUSR1); }
static void blocked(void) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGSEGV), sigprocmask(SIG_BLOCK, &set, NULL);
    kill_without_stack(getpid(), SIGUSR1);
}
static void no_stack_either(void) {
    struct sigaction a = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL), kill_without_stack(getpid(), SIGUSR1);
}
int main(void) {
    begin();
    stack_t st = {.ss_sp = other, .ss_size = sizeof other};
    sigaltstack(&st, NULL);
    struct sigaction a = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK}, b = {.sa_handler = on};
    sigaction(SIGSEGV, &a, NULL), sigaction(SIGUSR1, &b, NULL);
    if (!sigsetjmp(back, 1)) kill_without_stack(getpid(), SIGUSR1), puts("not reached");
    if (!sigsetjmp(back, 1)) sigreturn_from_nowhere(), puts("not reached");
    raise(SIGUSR1);
    in_child("uncaught", uncaught), in_child("ignored", ignored), in_child("blocked", blocked), in_child("no stack either", no_stack_either);
}
