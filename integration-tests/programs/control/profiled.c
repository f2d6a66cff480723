// gcc: -pg
// A profiler's counter is called in the middle of everything, with the arguments of its caller still in registers.
#include <stdio.h>
#include <unistd.h>
#define APART __attribute__((noinline, noclone))

static APART long six(long a, long b, long c, long d, long e, long f) { return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f; }
static APART double mixed(double x, int k, double y) { return k ? x * y : x - y; }
static APART const char *name(const char *p, long n) { return n > 2 ? p + n : p; }
static long (*volatile unknown)(long, long, long, long, long, long) = six;

int main(int argc, char **argv) {
    (void)argv;
    for (long k = 0; k < 3; k++) printf("%ld %ld\n", six(k, 2, 3, 4, argc, 6), unknown(1, k, 3, argc, 5, 6));
    printf("%g %g %s\n", mixed(argc, argc, 2.5), mixed(argc, 0, 2.5), name("abcdef", argc + 2));
    fflush(stdout);
    _exit(0); // No gmon.out.
}
