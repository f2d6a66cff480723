// setjmp and longjmp: also compiled for WASI, with both forms of exceptions, and natively.
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf outer, inner;
static int steps;

__attribute__((noinline)) static void deep(int n, jmp_buf to, int value) {
    volatile char room[100];
    room[0] = (char)n;
    steps++;
    if (n == 0) longjmp(to, value);
    deep(n - 1, to, value);
    steps += room[0] + 1000;
}

static int compare(const void *a, const void *b) {
    if (*(const int *)a == 7 || *(const int *)b == 7) longjmp(inner, 70);
    return *(const int *)a - *(const int *)b;
}

static void (*volatile through)(int, jmp_buf, int) = deep;

static int once(int value) {
    volatile int kept = 1;
    int got = setjmp(outer);
    if (got == 0) {
        kept = 2;
        through(5, outer, value);
        kept = 3;
    }
    return got * 10 + kept;
}

/* Two in one function, and a jump from one's way back to the other. */
static int both(void) {
    volatile int turns = 0;
    if (setjmp(outer)) return turns * 100 + 1;
    int got = setjmp(inner);
    turns++;
    if (got < 3) deep(3, inner, got + 1);
    longjmp(outer, 1);
}

/* Each call has its own; the innermost one throws past all to the first. */
static int nested(int n, jmp_buf *first) {
    jmp_buf own;
    if (setjmp(own)) return -n;
    if (n == 0) longjmp(*first, 9);
    int below = nested(n - 1, n == 5 ? &own : first);
    if (n == 3) longjmp(own, 1);
    return below + 1;
}

static int loop(void) {
    volatile int sum = 0;
    for (volatile int i = 0; i < 50; i++) {
        jmp_buf b;
        int got = setjmp(b);
        if (got == 0 && i % 3) longjmp(b, i);
        sum += got;
    }
    return sum;
}

static double values(double d, long long l) {
    volatile double vd = d;
    volatile long long vl = l;
    if (setjmp(outer) == 0) {
        vd *= 2, vl *= 3;
        through(1, outer, 1);
    }
    return vd + (double)vl;
}

int main(int argc, char **argv) {
    printf("once %d\n", once(4));
    printf("once %d\n", once(0));
    printf("once %d\n", once(-3));
    printf("both %d\n", both());
    printf("steps %d\n", steps);
    printf("loop %d, values %g\n", loop(), values(1.5, 1LL << 33));
    jmp_buf first;
    if (setjmp(first) == 0) printf("nested %d\n", nested(6, &first));
    else printf("nested: jumped\n");
    int numbers[] = {5, 3, 9, 7, 1, 8};
    int got = setjmp(inner);
    if (got == 0) qsort(numbers, 6, sizeof *numbers, compare);
    printf("from a callback: %d\n", got);
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "nobody")) {
        /* Nobody is there any more: undefined in C, the end of the program as WebAssembly. */
        once(1);
        longjmp(outer, 5);
    }
    if (argc > 1 && !strcmp(argv[1], "exit") && setjmp(outer) == 0) exit(6);
    return 3;
}
