/* What a handler finds in memory, and accesses that do nothing but fault: none is left out, none comes early. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
static sigjmp_buf back;
static volatile int step;
static volatile sig_atomic_t caught;
static void handler(int s) { caught = step, siglongjmp(back, s); }
#define TRY(what, ...) do { step = 0; caught = -1; if (!sigsetjmp(back, 1)) { __VA_ARGS__; printf("%s: nothing, step %d\n", what, step); } else printf("%s: a signal at step %d\n", what, (int)caught); } while (0)

/* mmap(2) whose result is used where the call returned it: in rax. */
static inline __attribute__((always_inline)) char *map_here(size_t len, int prot) {
    register long r10 asm("r10") = MAP_PRIVATE | MAP_ANONYMOUS, r8 asm("r8") = -1, r9 asm("r9") = 0;
    char *p;
    asm volatile("syscall" : "=a"(p) : "0"(SYS_mmap), "D"(0), "S"(len), "d"(prot), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return p;
}
static __attribute__((noinline)) void store_read_only(void) { *map_here(4096, PROT_READ) = 1; }
static __attribute__((noinline)) long behind_number(void) {
    long r;
    /* An address that no register holds on purpose: getpid's answer is no pointer. */
    asm volatile("syscall; mov 0x410(%%rax), %0" : "=r"(r) : "a"(SYS_getppid + 0L) : "rcx", "r11", "memory");
    return r;
}
static __attribute__((noinline)) void between(char *bad) { step = 1; *bad = 1; step = 2; }
static __attribute__((noinline)) void dead_load(volatile char *bad) { step = 1; (void)*bad; step = 2; }
static __attribute__((noinline)) void dead_long(volatile long *bad) { step = 1; (void)*bad; step = 2; }
static __attribute__((noinline)) void test_across(char *p) { step = 1; asm volatile("test %%rax, %0" : : "m"(*(long *)p) : "cc"); step = 2; }
static __attribute__((noinline)) int twice(volatile int *p) { int a = *p; int b = *p; return a == b; }

int main(void) {
    struct sigaction act = {.sa_handler = handler};
    sigaction(SIGSEGV, &act, NULL);
    sigaction(SIGBUS, &act, NULL);
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, 4096, PROT_READ);
    mprotect(pages + 4096, 4096, PROT_NONE);
    TRY("store to what was mapped to be read", store_read_only());
    TRY("load behind a number that a call returned", step = behind_number() != 0);
    TRY("stores around a fault", between((char *)16));
    TRY("load that nobody needs", dead_load((char *)16));
    TRY("long load that nobody needs", dead_long((long *)16));
    TRY("test across the end", test_across(pages + 4093));
    TRY("test before the end", test_across(pages + 4088));
    TRY("load twice", step = twice((int *)pages));
}
