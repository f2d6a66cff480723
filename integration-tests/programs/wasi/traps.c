// Ends in the way its argument names.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero = 0;
static int deep(int n) { volatile char room[1000]; room[0] = (char)n; return deep(n + 1) + room[0]; }
__attribute__((noinline)) static int frames(int n) { return n <= 0 ? 0 : 1 + frames(n - 1 + zero); }
static int add(int a, int b) { return a + b; }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    printf("before %s\n", how);
    fflush(stdout);
    if (!strcmp(how, "unreachable")) __builtin_trap();
    if (!strcmp(how, "divide")) printf("%d\n", 1 / zero);
    if (!strcmp(how, "overflow")) printf("%d\n", (INT32_MIN + zero) / (zero - 1));
    if (!strcmp(how, "load")) printf("%d\n", *(volatile int *)(uintptr_t)0xfffff000u);
    if (!strcmp(how, "store")) *(volatile int *)(uintptr_t)0x7ffffff0u = 1;
    if (!strcmp(how, "copy")) memcpy((void *)(uintptr_t)(0x7ffffff0u + zero), argv, 4096);
    if (!strcmp(how, "signature")) printf("%d\n", ((int (*)(double))(uintptr_t)(void *)(zero ? 0 : (void *)add))(1.0));
    if (!strcmp(how, "null")) ((void (*)(void))(uintptr_t)zero)();
    if (!strcmp(how, "stack")) printf("%d\n", deep(0));
    if (!strcmp(how, "frames")) printf("%d\n", frames(20000));
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "exit")) exit(7);
    if (!strcmp(how, "huge")) printf("%s\n", malloc(0xf0000000u) ? "given" : "refused");
    if (!strcmp(how, "grow")) {
        size_t all = 0;
        for (int i = 0; i < 64; i++) { char *p = malloc(1 << 20); if (!p) return 1; memset(p, i, 1 << 20); all += p[i]; }
        printf("grown %zu\n", all);
    }
    printf("after\n");
    return 0;
}
