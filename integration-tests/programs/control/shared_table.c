// An interpreter with computed gotos: every handler jumps through the same table, from many places, with general and vector registers live. Two tables in one function,
// and signals all the time: the poll on the way back to the table must go on at the right handler.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;
static void tick(int s) { ticks += s == SIGALRM; }

static double run(const unsigned char *code, int rounds, long *out) {
    static const void *const first[] = {&&add, &&mul, &&xor, &&halve, &&swap, &&other, &&again, &&end};
    static const void *const second[] = {&&sub, &&rot, &&back, &&scale};
    const unsigned char *pc = code;
    long a = 1, b = 7;
    double x = 1.5, y = 0.25;
#define NEXT goto *first[*pc++]
#define THEN goto *second[*pc++]
    NEXT;
add: a += b + *pc++; x += y; NEXT;
mul: a *= 3 + *pc++; if (a > 1000000007) a %= 1000000007; NEXT;
xor: b ^= a >> 3; y = -y + 0.5; NEXT;
halve: x *= 0.5; b += x > 1; NEXT;
swap: { long t = a; a = b; b = t; double u = x; x = y; y = u; } NEXT;
other: THEN;
sub: a -= b; THEN;
rot: b = (long)((unsigned long)b << 5 | (unsigned long)b >> 59); THEN;
scale: y = y * 1.0625 + a % 3; if (y > 1e6) y = 0.125; THEN;
back: NEXT;
again: if (--rounds > 0) { pc = code; if (a & 1) THEN; NEXT; } NEXT;
end: *out = a ^ b;
    return x + y;
}

int main(void) {
    struct sigaction sa = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, 0);
    struct itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, 0);
    // `again` may take the second table at the start of the code: 3 there is `scale`, in the first table `halve`.
    static const unsigned char code[] = {3, 0, 9, 1, 4, 2, 3, 5, 0, 1, 3, 2, 4, 0, 200, 5, 1, 3, 3, 0, 2, 2, 6, 7};
    unsigned char odd[sizeof code];
    memcpy(odd, code, sizeof code);
    odd[0] = 2;
    long r = 0;
    for (int k = 1; k < 200; k++) {
        double d = run(code, 2000 * k % 5003 + 1, &r);
        printf("%d %ld %.17g\n", k, r, d);
    }
    printf("%.17g %ld\n", run(odd, 2000000, &r), r);
    while (ticks < 3) {}
    puts("interrupted");
    return 0;
}
