// gcc: -no-pie
// An executable at fixed addresses that reaches far beyond where libraries' places begin, as gcc's cc1 does: libraries have to keep off it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

static unsigned char far[48 << 20];
static int (*volatile print)(const char *, ...) = printf;
static int backwards(const void *a, const void *b) { return *(const unsigned char *)b - *(const unsigned char *)a; }

int main(void) {
    unsigned char *end = far + sizeof far;
    for (unsigned k = 0; k < 4096; k++) end[-1 - (int)k] = k * 7;
    qsort(end - 4096, 4096, 1, backwards);
    print("%d %d %d %.6f\n", end[-1], end[-4096], far[1 << 20], sqrt(end[-2048]));
    // The first and last page, and every megabyte between, belong to the program.
    unsigned long sum = 0;
    for (unsigned long at = 0; at < sizeof far; at += 1 << 20) far[at] = at >> 20, sum += far[at] * 3;
    print("%lu %p %p\n", sum, (void *)far, (void *)end);
    return memchr(far, 47, sizeof far) != far + (47 << 20);
}
