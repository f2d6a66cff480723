// Callbacks from libc into the program, and longjmp out of one.
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf env;
static int calls, limit = -1;

static int compare(const void *a, const void *b) {
    if (calls++ == limit) longjmp(env, 42);
    return *(const int *)a - *(const int *)b;
}

int main(void) {
    int v[200];
    for (int i = 0; i < 200; i++) v[i] = i * 7919 % 200;
    qsort(v, 200, sizeof *v, compare);
    int sorted = 1;
    for (int i = 1; i < 200; i++) sorted &= v[i - 1] <= v[i];
    printf("sorted %d\n", sorted);
    for (limit = 1; limit < 50; limit += 16) {
        for (int i = 0; i < 200; i++) v[i] = i * 7919 % 200;
        calls = 0;
        int r = setjmp(env);
        if (r == 0) {
            qsort(v, 200, sizeof *v, compare);
            puts("not reached");
        }
        printf("longjmp %d after %d\n", r, calls);
    }
}
