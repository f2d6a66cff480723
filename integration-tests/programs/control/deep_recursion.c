// Recursion down to most of the 8 MiB stack, twice; then through a function pointer.
#include <stdio.h>

__attribute__((noinline)) static long depth(long n, volatile long *sum) {
    volatile char frame[48];
    frame[n & 31] = (char)n;
    *sum += frame[n & 31];
    if (n == 0) return 0;
    return depth(n - 1, sum) + 1;
}

static long (*volatile indirect)(long, volatile long *) = depth;

int main(void) {
    volatile long sum = 0;
    printf("%ld\n", depth(60000, &sum));
    printf("%ld\n", indirect(60000, &sum));
    printf("%ld\n", sum);
}
