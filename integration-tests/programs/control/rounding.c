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

/* Global: the compiler of lifted code sees through the stack, and folds the conversion of a constant rounding to nearest. */
static volatile long long big = 0x7fffffffffffffffll;

__attribute__((noinline)) static void arithmetic(volatile double *a, volatile double *b) {
    bits("add", *a + *b); bits("sub", *a - *b); bits("mul", *a * *b); bits("div", *a / *b); bits("sqrt", sqrt(*b));
    volatile float f = (float)*a; bits("float", f);
    bits("int", (double)big);
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
