/* What a handler reads in a fault's frame: number of the exception, and the error code as the processor gave it. It was always 4, and a jump into data was a jump to what is not mapped. */
#include "facts.h"
#include <fenv.h>
#include <setjmp.h>
#include <ucontext.h>
#pragma STDC FENV_ACCESS ON
static sigjmp_buf back;
static char *page;
static void on(int s, siginfo_t *i, void *c) {
    ucontext_t *u = c;
    char *at = i->si_addr;
    int near = s == SIGSEGV && at >= page && at < page + 3 * 4096;
    printf("signal %d code %d trap %lld error %llx offset %ld\n", s, i->si_code, u->uc_mcontext.gregs[REG_TRAPNO], u->uc_mcontext.gregs[REG_ERR], near ? (long)(at - page) : -1);
    siglongjmp(back, 1);
}
__attribute__((noinline)) static void put(volatile char *p) { *p = 1, getppid(); }
__attribute__((noinline)) static void get(volatile char *p) { fact("read", *p); }
static double numbers[] = {1, 0};
int main(void) {
    begin();
    struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL), sigaction(SIGFPE, &a, NULL), sigaction(SIGILL, &a, NULL);
    page = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = page[4096] = (char)0xc3;
    mprotect(page, 4096, PROT_READ), mprotect(page + 8192, 4096, PROT_NONE);
    if (!sigsetjmp(back, 1)) put(page + 5);
    if (!sigsetjmp(back, 1)) get(page + 8192);
    if (!sigsetjmp(back, 1)) put(page + 8192);
    if (!sigsetjmp(back, 1)) ((void (*)(void))(page + 4096))();
    if (!sigsetjmp(back, 1)) ((void (*)(void))(page + 4096 + 16))();
    munmap(page + 4096, 4096);
    if (!sigsetjmp(back, 1)) get(page + 4096);
    if (!sigsetjmp(back, 1)) put(page + 4097);
    if (!sigsetjmp(back, 1)) ((void (*)(void))(page + 4096))();
    if (!sigsetjmp(back, 1)) put((char *)16);
    volatile int zero = 0;
    if (!sigsetjmp(back, 1)) fact("quotient", 100 / zero);
    if (!sigsetjmp(back, 1)) { feenableexcept(FE_DIVBYZERO); volatile double q = numbers[0] / numbers[1]; (void)q; getppid(); }
    fedisableexcept(FE_ALL_EXCEPT), feclearexcept(FE_ALL_EXCEPT);
    if (!sigsetjmp(back, 1)) __builtin_trap();
}
