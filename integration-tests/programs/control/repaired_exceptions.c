// Handlers of SIGFPE and SIGSEGV that change the state and return: nothing before the instruction is done twice, and what is not pending any more is raised no more.
#include <fenv.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int count;
static long page;
static void mask_sse(int s, siginfo_t *i, void *u) {
    ucontext_t *c = u;
    count++;
    c->uc_mcontext.fpregs->mxcsr |= 0x1f80;
    c->uc_mcontext.fpregs->mxcsr &= ~0x3f;
}
static void forget_x87(int s, siginfo_t *i, void *u) {
    ucontext_t *c = u;
    if (++count > 3) _exit(1);
    printf("status %04x\n", c->uc_mcontext.fpregs->swd);
    c->uc_mcontext.fpregs->swd &= ~0x3f;
}
static void give(int s, siginfo_t *i, void *u) {
    count++;
    mprotect((void *)((unsigned long)i->si_addr & -page), page, PROT_READ | PROT_WRITE);
}
static void handle(int s, void (*f)(int, siginfo_t *, void *)) { sigaction(s, &(struct sigaction){.sa_sigaction = f, .sa_flags = SA_SIGINFO}, 0); }

int main(void) {
    setvbuf(stdout, 0, _IONBF, 0);
    page = sysconf(_SC_PAGESIZE);
    handle(SIGFPE, mask_sse);
    // The addition to memory must happen once.
    long counter = 0;
    double zero = 0, one = 1, q;
    unsigned csr = 0x1f80 & ~0x200;
    __asm__ volatile("ldmxcsr %3\n movsd %4, %%xmm0\n movsd %5, %%xmm1\n jmp 1f\n1: addq $1, %0\n divsd %%xmm1, %%xmm0\n movsd %%xmm0, %1\n stmxcsr %2"
                     : "+m"(counter), "=m"(q), "=m"(csr) : "m"(csr), "m"(one), "m"(zero) : "xmm0", "xmm1", "memory");
    printf("sse %d %ld %g\n", count, counter, q);
    count = 0;
    handle(SIGFPE, forget_x87);
    unsigned short cw = 0x37e, sw;
    __asm__ volatile("fninit; fldcw %1; fldl %2; fldl %2; fdivrp; fwait; fstp %%st(0); fnstsw %0; fninit" : "=m"(sw) : "m"(cw), "m"(zero));
    printf("x87 %d %04x\n", count, sw);
    count = 0;
    handle(SIGSEGV, give);
    unsigned char *area = mmap(0, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long mm = 0, step = 0x0102030405060708, old[2] = {0x1111, 0x2222};
    __asm__ volatile("movq %1, %%mm1\n pxor %%mm0, %%mm0\n jmp 1f\n1: paddb %%mm1, %%mm0\n movq %%mm0, (%2)\n movq %%mm0, %0\n emms" : "=m"(mm) : "m"(step), "r"(area) : "memory");
    unsigned long after;
    __asm__ volatile("jmp 1f\n1: lodsb\n std\n stosb\n cld\n mov %%rsi, %0" : "=r"(after), "+D"((unsigned char *){area + page}) : "S"(old) : "rax", "memory");
    printf("mmx %d %lx, df %ld %02x\n", count, mm, (long)(after - (unsigned long)old), area[page]);
    // What nobody looks at must be there all the same: Go's check for nil.
    count = 0;
    __asm__ volatile("testb %%al, (%0)\n cmpl $1, (%1)" : : "r"(area + 2 * page), "r"(area + 3 * page) : "cc");
    printf("checks %d\n", count);
    return 0;
}
