/* MXCSR as programs see it: rounding modes obeyed by arithmetic, sticky exception flags, flush-to-zero, SIGFPE of unmasked exceptions, the environment across fork and signals. */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

static sigjmp_buf back;
static void on_fpe(int s, siginfo_t *i, void *c) { printf("signal %d code %d\n", s, i->si_code); siglongjmp(back, 1); }
static void on_usr1(int s) { printf("in handler: mode %d flags %x\n", fegetround(), fetestexcept(FE_ALL_EXCEPT)); fesetround(FE_UPWARD); }

static void bits(const char *what, double v) { uint64_t u; memcpy(&u, &v, 8); printf("%s %016llx\n", what, (unsigned long long)u); }

/* Of constants too: the compiler of lifted code once rounded them to nearest, whatever the mode. */
static double of_constants(int what) {
    double r;
    if (what == 0) __asm__ volatile("movabs $0x7fffffffffffffff, %%rax\n\tcvtsi2sd %%rax, %0" : "=x"(r) : : "rax");
    if (what == 1) __asm__ volatile("movabs $0x4000000000000000, %%rax\n\tmovq %%rax, %%xmm1\n\tsqrtsd %%xmm1, %0" : "=x"(r) : : "rax", "xmm1");
    if (what == 2) { int i; float f; __asm__ volatile("mov $0x1ffffff, %1\n\tcvtsi2ss %1, %0" : "=x"(f), "=&r"(i)); r = f; }
    return r;
}

__attribute__((noinline)) static void arithmetic(volatile double *a, volatile double *b) {
    bits("add", *a + *b); bits("sub", *a - *b); bits("mul", *a * *b); bits("div", *a / *b); bits("sqrt", sqrt(*b));
    volatile float f = (float)*a; bits("float", f);
    for (int k = 0; k < 3; k++) bits("constant", of_constants(k));
    printf("rint %.1f lrint %ld\n", rint(*b * 10 + 0.5), lrint(-2.5));
}

static void *unmasked(void *zero) {
    volatile double r;
    if (!sigsetjmp(back, 1)) { r = 1 / *(volatile double *)zero; puts("not reached"); }
    _mm_setcsr(0x1f80);
    puts("end of the thread");
    (void)r;
    return NULL;
}

/* What each instruction raises, whether its result is used or not. */
#define RAISED(text, inputs...) do { \
    long to = 0; \
    _mm_setcsr(0x1f80); \
    __asm__ volatile(text : "+r"(to) : inputs : "cc", "xmm0", "xmm1"); \
    printf("%s: flags %x, %lx\n", #text, _mm_getcsr() & 0x3f, to); \
} while (0)

static void exceptions(void) {
    static const unsigned long doubles[] = {0x7ff8000000000000, 0x7ff4000000000000, 0x3ff0000000000000, 0x4004000000000000, 0x41e0000000000000, 0xc1e0000000000000, 0x46293e5939a08cea, 1};
    for (int k = 0; k < 8; k++) {
        double x = ((double *)doubles)[k];
        float f;
        unsigned small = k < 2 ? doubles[k] >> 32 | 1 << 21 : 0;
        if (k == 0) small = 0x7fc00000;
        if (k == 1) small = 0x7fa00000;
        f = x;
        if (k < 2) memcpy(&f, &small, 4);
        printf("%016lx\n", doubles[k]);
        RAISED("comisd %1, %1", "x"(x));
        RAISED("ucomisd %1, %1", "x"(x));
        RAISED("comiss %1, %1", "x"(f));
        RAISED("ucomiss %1, %1", "x"(f));
        RAISED("comisd %1, %1\n\tseta %b0", "x"(x));
        RAISED("ucomiss %1, %1\n\tsetp %b0", "x"(f));
        RAISED("cvtsd2si %1, %k0", "x"(x));
        RAISED("cvtsd2si %1, %0", "x"(x));
        RAISED("cvttsd2si %1, %k0", "x"(x));
        RAISED("cvttsd2si %1, %0", "x"(x));
        RAISED("cvtss2si %1, %k0", "x"(f));
        RAISED("cvttss2si %1, %0", "x"(f));
        RAISED("movaps %1, %%xmm0\n\tcvtpd2dq %%xmm0, %%xmm0\n\tmovd %%xmm0, %k0", "x"(x));
        RAISED("movss %1, %%xmm0\n\tcvttps2dq %%xmm0, %%xmm0\n\tmovd %%xmm0, %k0", "m"(f));
        RAISED("roundsd $1, %1, %%xmm0", "x"(x));
        RAISED("roundsd $9, %1, %%xmm0", "x"(x));
        RAISED("roundsd $4, %1, %%xmm0\n\tmovq %%xmm0, %0", "x"(x));
        RAISED("roundsd $12, %1, %%xmm0\n\tmovq %%xmm0, %0", "x"(x));
        RAISED("roundss $2, %1, %%xmm0\n\tmovd %%xmm0, %k0", "x"(f));
        RAISED("movsd %1, %%xmm0\n\tmaxsd %2, %%xmm0\n\tmovq %%xmm0, %0", "m"(x), "x"(1.0));
        RAISED("movss %1, %%xmm0\n\tminss %2, %%xmm0\n\tmovd %%xmm0, %k0", "m"(f), "x"(1.0f));
        RAISED("movsd %1, %%xmm0\n\tcmpltsd %2, %%xmm0\n\tmovq %%xmm0, %0", "m"(x), "x"(1.0));
        RAISED("movsd %1, %%xmm0\n\tcmpeqsd %2, %%xmm0\n\tmovq %%xmm0, %0", "m"(x), "x"(1.0));
    }
    RAISED("movabs $0x4004000000000000, %0\n\tmovq %0, %%xmm0\n\tcvtsd2si %%xmm0, %0");
    RAISED("movabs $0x7ff8000000000000, %0\n\tmovq %0, %%xmm0\n\tcvttsd2si %%xmm0, %0");
    _mm_setcsr(0x1f80);
}

int main(void) {
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    volatile double a = 1.0, b = 0.1, zero = 0, tiny = 4.9406564584124654e-324, huge = 1.7e308;
    for (int m = 0; m < 4; m++) {
        feclearexcept(FE_ALL_EXCEPT);
        printf("mode %d: %d\n", modes[m], fesetround(modes[m]));
        arithmetic(&a, &b);
        printf("%.20f %g\n", b, 1e23);
        printf("flags %x\n", fetestexcept(FE_ALL_EXCEPT));
    }
    fesetround(FE_TONEAREST);
    exceptions();
    feclearexcept(FE_ALL_EXCEPT);
    volatile double r = a / zero; printf("divide %x\n", fetestexcept(FE_ALL_EXCEPT)); feclearexcept(FE_ALL_EXCEPT);
    r = huge * huge; printf("overflow %x\n", fetestexcept(FE_ALL_EXCEPT)); feclearexcept(FE_ALL_EXCEPT);
    r = tiny / 3; printf("underflow %x\n", fetestexcept(FE_ALL_EXCEPT)); feclearexcept(FE_ALL_EXCEPT);
    r = zero / zero; printf("invalid %x\n", fetestexcept(FE_ALL_EXCEPT)); feclearexcept(FE_ALL_EXCEPT);
    write(-1, "", 1);
    r = a / 3; getpid(); printf("across a system call %x\n", fetestexcept(FE_ALL_EXCEPT));
    _mm_setcsr(_mm_getcsr() | 0x8040);
    bits("denormals as zero", tiny + tiny); bits("flush to zero", 2.2250738585072014e-308 * (b + a * 0));
    _mm_setcsr(0x1f80);
    fesetround(FE_DOWNWARD);
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    printf("after the handler: %d\n", fegetround());
    fflush(stdout);
    if (fork() == 0) { bits("child", a / 3); fflush(stdout); _exit(0); }
    wait(NULL);
    bits("parent", a / 3);
    fesetround(FE_TONEAREST);
    struct sigaction s = {.sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &s, NULL);
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_DIVBYZERO | FE_INVALID);
    if (!sigsetjmp(back, 1)) { r = a / zero; puts("not reached"); }
    if (!sigsetjmp(back, 1)) { r = zero / zero; puts("not reached"); }
    printf("%d\n", fegetexcept() != 0);
    /* A thread begins with the register of the one that made it: here every exception unmasked, all bits zero. */
    pthread_t thread;
    _mm_setcsr(0);
    pthread_create(&thread, NULL, unmasked, (void *)&zero);
    pthread_join(thread, NULL);
    _mm_setcsr(0x1f80);
    (void)r;
    return 0;
}
