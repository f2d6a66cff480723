// Results that their caller only passes on to a function it does not know: a length in rdx, numbers in xmm0 and xmm1; and a loop that another thread has to end, without any instruction that looks like synchronisation.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#define APART __attribute__((noinline, noclone))

struct text { const char *p; size_t n; };
struct pair { double a, b; };
static APART struct text text(int k) { return (struct text){k > 1 ? "several\n" : "one\n", k > 1 ? 8 : 4}; }
static APART double number(double x) { return x * 2 + 1; }
static APART struct pair numbers(double x) { return (struct pair){x - 0.5, x * 4}; }

static APART void on_text(int k) { struct text t = text(k); write(1, t.p, t.n); }
static APART void on_number(double x) { printf("%g\n", number(x)); }
static APART void on_numbers(double x) { struct pair p = numbers(x); printf("%g %g\n", p.a, p.b); }
static double (*volatile unknown)(double, double) = 0;
static double difference(double a, double b) { return a - b; }
static APART double on_pointer(double x) { struct pair p = numbers(x); return unknown(p.a, p.b); }

static int go, seen;
static void *other(void *unused) {
    usleep(30000);
    __asm__ volatile("movl $1, %0" : "=m"(go));
    return unused;
}
// Compilers make this of `while (!go);` where they may not leave the load out.
static APART void spin(void) { __asm__ volatile("1: movl %1, %%eax\n testl %%eax, %%eax\n je 1b\n movl %%eax, %0" : "=m"(seen) : "m"(go) : "eax", "cc"); }

int main(int argc, char **argv) {
    on_text(argc), on_text(argc + 1);
    on_number(argc), on_numbers(argc);
    unknown = difference;
    printf("%g\n", on_pointer(argc + 1.25));
    pthread_t t;
    pthread_create(&t, 0, other, 0);
    spin();
    pthread_join(t, 0);
    printf("%d\n", seen);
    return 0;
}
