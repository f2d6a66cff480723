// Faults on stacks a program made itself, several in one mapping, whose lowest pages were touched, and which lie close to each other: the handler's frame goes on the stack that faulted, and leaves the others' frames alone.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK (64 << 10)
static sigjmp_buf env;
static ucontext_t home, other[3];
static char *stacks;
static volatile int faults;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    char here;
    printf("signal %d at %ld on stack %ld\n", sig, (long)info->si_addr, (&here - stacks) / STACK);
    faults++;
    siglongjmp(env, 1);
}

// A frame that would be overwritten if the handler's went on the wrong stack.
__attribute__((noinline)) static int keep(volatile char *p, int n) {
    volatile char mine[600];
    memset((char *)mine, n, sizeof mine);
    getppid();
    if (sigsetjmp(env, 1) == 0)
        printf("not reached %d\n", *p);
    int same = 0;
    for (unsigned i = 0; i < sizeof mine; i++)
        same += mine[i] == n;
    return same;
}

static void body(int n) {
    volatile char deep[3000];
    memset((char *)deep, n, sizeof deep);
    for (int i = 0; i < 3; i++) {
        printf("stack %d kept %d\n", n, keep((char *)16 + n, n + i));
        swapcontext(&other[n], &home);
        int same = 0;
        for (unsigned k = 0; k < sizeof deep; k++)
            same += deep[k] == n;
        printf("stack %d deep %d\n", n, same);
    }
}

int main(void) {
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    stacks = mmap(NULL, 3 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int n = 0; n < 3; n++) {
        stacks[n * STACK] = 1;
        getcontext(&other[n]);
        other[n].uc_stack.ss_sp = stacks + n * STACK;
        other[n].uc_stack.ss_size = STACK;
        other[n].uc_link = &home;
        makecontext(&other[n], (void (*)(void))body, 1, n);
    }
    for (int i = 0; i < 3; i++)
        for (int n = 0; n < 3; n++)
            swapcontext(&home, &other[n]);
    printf("%d faults\n", faults);
    return 0;
}
