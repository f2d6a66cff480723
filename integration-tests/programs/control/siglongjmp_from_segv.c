// siglongjmp out of a SIGSEGV handler, with si_addr checked, more than once; callee-saved registers of the setjmp frame survive.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static sigjmp_buf env;
static void *volatile where;

static void handler(int sig, siginfo_t *info, void *context) {
    (void)context;
    where = info->si_addr;
    siglongjmp(env, sig);
}

int main(void) {
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, NULL);
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    volatile int sum = 0;
    for (volatile int i = 0; i < 5; i++) {
        int r = sigsetjmp(env, 1);
        if (r == 0) {
            sum += page[i * 8];
            puts("not reached");
        } else {
            printf("signal %d, offset %ld\n", r, (long)((char *)where - page));
            sum += i;
        }
    }
    printf("sum %d\n", sum);
    volatile int *null = NULL;
    if (sigsetjmp(env, 1) == 0)
        *null = 1;
    else
        printf("null %p\n", where);
    return 0;
}
