// SIGSEGV and SIGBUS handlers that repair what was missing and return: the access is done again, and nothing before it twice. Garbage collectors and databases work so.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static unsigned char *area;
static volatile int repaired;
static long page;
static int file;

static void repair(int s, siginfo_t *i, void *u) {
    unsigned char *at = i->si_addr;
    if (s == SIGBUS) {
        if (ftruncate(file, 4 * page)) _exit(3);
    } else {
        if (at < area || at >= area + 64 * page) _exit(2);
        mprotect((void *)((unsigned long)at & -page), page, PROT_READ | PROT_WRITE);
    }
    repaired++;
}

// Read-modify-write on two pages in one block, with counters that must not count twice.
__attribute__((noinline)) static unsigned long mix(unsigned long *a, unsigned long *b, unsigned long n) {
    *a += n;
    *b ^= *a + n;
    a[1] = (*b)++ * 3;
    b[1] -= a[1];
    return *a ^ *b;
}

static void fresh(void) { mprotect(area, 64 * page, PROT_NONE); }

int main(void) {
    struct sigaction sa = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &sa, 0);
    sigaction(SIGBUS, &sa, 0);
    page = sysconf(_SC_PAGESIZE);
    area = mmap(0, 64 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned long sum = 0;
    for (int k = 0; k < 50; k++) {
        fresh();
        sum += mix((unsigned long *)(area + k % 60 * page), (unsigned long *)(area + (k + 3) % 60 * page), k * 77);
        sum += mix((unsigned long *)(area + k % 60 * page + page - 8), (unsigned long *)(area + (k + 2) % 60 * page), k);
    }
    printf("%lx %d\n", sum, repaired);
    fresh();
    // A write across two pages, a copy into protected ones, floating point and x87.
    *(unsigned long *)(area + 5 * page - 3) = 0x1122334455667788;
    memset(area + 7 * page + 100, 7, 3 * page);
    memcpy(area + 20 * page - 5, area + 7 * page, 2 * page);
    volatile double *d = (double *)(area + 30 * page);
    volatile long double *l = (long double *)(area + 31 * page);
    double acc = 1.25;
    for (int k = 0; k < 4; k++) { acc = acc * 1.5 + d[k * 600]; d[k * 600] += acc; l[k * 300] = l[k * 300] * 2 + acc; }
    unsigned check = 0;
    fresh();
    for (long k = 0; k < 64 * page; k++) check = check * 31 + area[k];
    printf("%x %.17g %d\n", check, acc, repaired);
    // One atomic addition, one exchange.
    fresh();
    for (int k = 0; k < 10; k++) { __atomic_fetch_add((long *)(area + k * page), k + 5, __ATOMIC_SEQ_CST); check += __atomic_exchange_n((int *)(area + k * page + 64), k, __ATOMIC_SEQ_CST); }
    printf("%x %ld %d\n", check, *(long *)(area + 9 * page), repaired);
    // Beyond the end of a file until the handler makes it longer.
    char name[] = "/tmp/repairedXXXXXX";
    file = mkstemp(name);
    unlink(name);
    unsigned char *mapped = mmap(0, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    mapped[3 * page + 5] += 9;
    mapped[5] -= 2;
    printf("%d %d %d\n", mapped[3 * page + 5], mapped[5], repaired);
    return 0;
}
