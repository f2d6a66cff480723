// A repeated string instruction that faults in the middle: the handler sees rcx, rsi and rdi behind the elements that are done, repairs the page, and the instruction goes on from there. Operands that overlap
// would come out wrong if it began again.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 16 };
static unsigned char *area;

static void repair(int s, siginfo_t *i, void *u) {
    greg_t *r = ((ucontext_t *)u)->uc_mcontext.gregs;
    unsigned char *at = i->si_addr;
    if (at < area || at >= area + PAGES * PAGE) _exit(2);
    printf(" [at %ld: rcx %lld rsi %lld rdi %lld, repeated %d]", at - area, r[REG_RCX], r[REG_RSI] - (long long)area, r[REG_RDI] - (long long)area,
           *(unsigned short *)r[REG_RIP] == 0xf366 || *(unsigned char *)r[REG_RIP] == 0xf3 || *(unsigned char *)r[REG_RIP] == 0xf2);
    mprotect((void *)((unsigned long)at & -PAGE), PAGE, PROT_READ | PROT_WRITE);
}

// All pages filled and out of reach.
static void fresh(void) {
    mprotect(area, PAGES * PAGE, PROT_READ | PROT_WRITE);
    for (int k = 0; k < PAGES * PAGE; k++) area[k] = k * 7 + k / 251;
    mprotect(area, PAGES * PAGE, PROT_NONE);
}

static void show(const char *what, long rcx, unsigned char *rsi, unsigned char *rdi) {
    mprotect(area, PAGES * PAGE, PROT_READ);
    unsigned check = 0;
    for (int k = 0; k < PAGES * PAGE; k++) check = check * 31 + area[k];
    printf("\n%s: rcx %ld rsi %ld rdi %ld memory %x\n", what, rcx, rsi - area, rdi - area, check);
}

#define RUN(what, instruction, count, from, to) do { \
    fresh(); \
    unsigned char *rsi = area + (from), *rdi = area + (to); \
    long rcx = (count); \
    unsigned long rax = 0x1234567890abcdef; \
    __asm__ volatile(instruction "\n\tcld" : "+c"(rcx), "+S"(rsi), "+D"(rdi), "+a"(rax) : : "memory", "cc"); \
    show(what, rcx, rsi, rdi); \
} while (0)

int main(void) {
    struct sigaction sa = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, 0);
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    area = mmap(0, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    RUN("apart", "rep movsb", 3 * PAGE, 100, 8 * PAGE + 50);
    RUN("overlapping by one", "rep movsb", 2 * PAGE, PAGE - 30, PAGE - 29);
    RUN("overlapping by a lot", "rep movsb", 4 * PAGE, 10, PAGE + 5);
    RUN("overlapping below", "rep movsb", 2 * PAGE, PAGE + 7, PAGE);
    RUN("backwards", "std\n\trep movsb", 2 * PAGE + 9, 3 * PAGE - 5, 3 * PAGE);
    RUN("quads across pages", "rep movsq", 1200, 3, 5 * PAGE + 6);
    RUN("overlapping quads", "rep movsq", 700, PAGE - 12, PAGE - 4);
    RUN("words of one value", "rep stosw", 5000, 0, PAGE - 3);
    RUN("quads", "rep stosq", 1500, 0, PAGE - 16);
    RUN("loads", "rep lodsl", 2500, 2 * PAGE - 8, 0);
    RUN("comparison", "repe cmpsb", 3 * PAGE, 100, 100);
    RUN("search", "xor %%eax, %%eax\n\tmov $0x9a, %%al\n\trepne scasb", 3 * PAGE, 0, 2 * PAGE - 4);
    // Both operands in one page that can be read only: it is the write that faults.
    fresh();
    mprotect(area, PAGES * PAGE, PROT_READ);
    unsigned char *rsi = area + 10, *rdi = area + 2 * PAGE - 100;
    long rcx = 300;
    __asm__ volatile("rep movsb" : "+c"(rcx), "+S"(rsi), "+D"(rdi) : : "memory");
    show("read-only", rcx, rsi, rdi);
    return 0;
}
