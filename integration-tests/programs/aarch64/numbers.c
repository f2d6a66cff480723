// A program with a whole libc (static, glibc: its start, its routines chosen by cpuid, printf and strtod, malloc), whose every line must be the same on another kind of processor.
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

static uint64_t bits(double v) { return ((union { double d; uint64_t i; }){v}).i; }

static jmp_buf back;
static void on_signal(int n) { longjmp(back, n); }

int main(int argc, char **argv) {
    double v[20];
    unsigned seed = 1;
    for (int i = 0; i < 20; i++) seed = seed * 1103515245 + 12345, v[i] = (seed >> 8) / 1e5 - 60;
    qsort(v, 20, sizeof *v, by_value);
    for (int i = 0; i < 20; i++) printf("%.6f %g %e %.15g\n", v[i], v[i] * v[i], 1 / v[i], sqrt(fabs(v[i])));
    // NaNs made of numbers have their sign set on x86; of two the first is the result, and signalling ones do not come first.
    volatile double zero = 0, infinite = HUGE_VAL, root = -1;
    printf("%f %f %f %lx %lx\n", zero / zero, infinite - infinite, sqrt(root), bits(zero / zero), bits(infinite * zero));
    volatile uint64_t quiet = 0x7ff8000000000abc, signalling = 0xfff0000000000def;
    double a, b;
    memcpy(&a, (void *)&quiet, 8), memcpy(&b, (void *)&signalling, 8);
    __asm__ volatile("" : "+x"(a), "+x"(b));
    printf("%lx %lx %lx %lx\n", bits(a + b), bits(b + a), bits(a * b), bits(b - a));
    // Out of range, conversions give x86's indefinite integer.
    volatile double large = 1e30, half = 2.5;
    printf("%d %ld %ld %ld %g\n", (int)large, (long)large, lrint(half), (long)-half, strtod("0x1.8p-1070", 0));
    char *p = malloc(300000);
    memset(p, 'x', 299999), p[299999] = 0;
    memmove(p + 1, p, 1000), memcpy(p + 200000, p, 50000);
    printf("%zu %s %d\n", strlen(p), strchr(p, 'y') ? "found" : "none", memcmp(p, p + 100000, 1000));
    long long x = -123456789012345;
    printf("%lld %llx %lld %lld\n", x, x, x / 7, x % 1000);
    static _Atomic long counter;
    static _Atomic unsigned char small = 250;
    for (int i = 0; i < 10; i++) atomic_fetch_add(&counter, i), atomic_fetch_add(&small, 1);
    long old = 45;
    printf("%d %ld %d\n", atomic_compare_exchange_strong(&counter, &old, 7), counter, small);
    signal(SIGFPE, on_signal);
    volatile int nothing = 0;
    int n = setjmp(back);
    if (n == 0) n = 100 * argc / nothing;
    printf("%d\n%d %s\n", n, argc, argv[argc - 1]);
    return 7;
}
