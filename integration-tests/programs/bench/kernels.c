// Compute kernels for `cargo xtask bench`: `kernels NAME` runs one and prints a checksum.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 12345;
static uint32_t next_random(void) { return seed = seed * 1664525u + 1013904223u; }

__attribute__((noinline)) static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t run_fib(void) { return fib(40); }

static uint64_t run_sieve(void) {
    enum { N = 8000000 };
    static unsigned char composite[N];
    uint64_t count = 0;
    for (int round = 0; round < 4; round++) {
        memset(composite, 0, N);
        count = 0;
        for (int i = 2; i < N; i++) {
            if (composite[i]) continue;
            count++;
            for (long j = (long)i * i; j < N; j += i) composite[j] = 1;
        }
    }
    return count;
}

#define ROTR(x, n) ((x) >> (n) | (x) << (32 - (n)))
static void sha256_block(uint32_t h[8], const unsigned char *p) {
    static uint32_t k[64];
    uint32_t w[64], v[8];
    if (!k[0]) {
        int n = 0;
        for (int p2 = 2; n < 64; p2++) {
            int prime = 1;
            for (int d = 2; d * d <= p2; d++) prime &= p2 % d != 0;
            if (prime) k[n++] = (uint32_t)(int64_t)(fmod(cbrt((double)p2), 1.0) * 4294967296.0);
        }
    }
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[i * 4] << 24 | p[i * 4 + 1] << 16 | p[i * 4 + 2] << 8 | p[i * 4 + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (ROTR(a, 7) ^ ROTR(a, 18) ^ a >> 3) + w[i - 7] + (ROTR(b, 17) ^ ROTR(b, 19) ^ b >> 10);
    }
    memcpy(v, h, 32);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = ROTR(v[4], 6) ^ ROTR(v[4], 11) ^ ROTR(v[4], 25), ch = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + ch + k[i] + w[i];
        uint32_t s0 = ROTR(v[0], 2) ^ ROTR(v[0], 13) ^ ROTR(v[0], 22), maj = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 28);
        v[4] += t1;
        v[0] = t1 + s0 + maj;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}
static uint64_t run_sha256(void) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char block[64];
    for (int i = 0; i < 64; i++) block[i] = i * 7;
    for (int i = 0; i < 400000; i++) {
        block[i & 63] ^= i;
        sha256_block(h, block);
    }
    return (uint64_t)h[0] << 32 | h[7];
}

static uint64_t run_matmul(void) {
    enum { N = 400 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = i + j * 0.5, b[i][j] = i - j * 0.25;
    for (int round = 0; round < 16; round++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                double x = a[i][k];
                for (int j = 0; j < N; j++) c[i][j] += x * b[k][j];
            }
    return (uint64_t)(int64_t)c[17][23];
}

static int compare_ints(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}
static uint64_t run_quicksort(void) {
    enum { N = 1000000 };
    static int v[N];
    uint64_t sum = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) v[i] = next_random() >> 1;
        qsort(v, N, sizeof *v, compare_ints);
        sum += v[N / 3];
    }
    return sum;
}

enum { PUSH, ADD, SUB, DUP, SWAP, JNZ, POP, XOR, HALT };
static uint64_t run_interpreter(void) {
    static const int code[] = {PUSH, 0, PUSH, 12000000, DUP, PUSH, 3, XOR, POP, SWAP, PUSH, 7, ADD, SWAP, PUSH, 1, SUB, DUP, JNZ, 4, POP, HALT};
    int64_t stack[16], *sp = stack;
    for (int pc = 0;;) {
        switch (code[pc++]) {
        case PUSH: *sp++ = code[pc++]; break;
        case ADD: sp--; sp[-1] += sp[0]; break;
        case SUB: sp--; sp[-1] -= sp[0]; break;
        case XOR: sp--; sp[-1] ^= sp[0]; break;
        case DUP: sp[0] = sp[-1]; sp++; break;
        case SWAP: { int64_t t = sp[-1]; sp[-1] = sp[-2]; sp[-2] = t; break; }
        case JNZ: pc = *--sp ? code[pc] : pc + 1; break;
        case POP: sp--; break;
        case HALT: return sp[-1];
        }
    }
}

static uint64_t run_strings(void) {
    static char text[65536], copy[65536];
    uint64_t sum = 0;
    for (int i = 0; i < 65535; i++) text[i] = "the quick brown fox jumps over the lazy dog "[i % 44];
    for (int round = 0; round < 40000; round++) {
        memcpy(copy, text, sizeof copy);
        copy[60000 + round % 4000] = 'Z';
        sum += strchr(copy, 'Z') - copy;
        sum += strlen(copy) + (memcmp(text, copy, 60000) == 0) + (strstr(copy + 59900, "gZ") != NULL);
    }
    return sum;
}

struct body { double p[3], v[3], m; };
static uint64_t run_nbody(void) {
    static struct body b[5];
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++) b[i].p[k] = i * 3.1 + k, b[i].v[k] = 0.01 * (i - k), b[i].m = 1.0 / (i + 1);
    for (int step = 0; step < 1500000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r2 = 0;
                for (int k = 0; k < 3; k++) d[k] = b[i].p[k] - b[j].p[k], r2 += d[k] * d[k];
                double mag = 0.001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) b[i].v[k] -= d[k] * b[j].m * mag, b[j].v[k] += d[k] * b[i].m * mag;
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) b[i].p[k] += 0.001 * b[i].v[k];
    }
    return (uint64_t)(int64_t)(b[0].p[0] * 1e9);
}

static uint64_t run_hashmap(void) {
    enum { SIZE = 1 << 20 };
    static uint32_t keys[SIZE], values[SIZE];
    uint64_t sum = 0;
    for (int i = 0; i < 12000000; i++) {
        uint32_t key = next_random() % 600000 + 1, at = key * 2654435761u >> 12;
        while (keys[at] && keys[at] != key) at = (at + 1) % SIZE;
        keys[at] = key;
        sum += values[at]++;
    }
    return sum;
}

struct node { struct node *left, *right; };
static struct node *make(int depth) {
    struct node *n = malloc(sizeof *n);
    n->left = depth ? make(depth - 1) : NULL;
    n->right = depth ? make(depth - 1) : NULL;
    return n;
}
static int check(struct node *n) { return n->left ? 1 + check(n->left) + check(n->right) : 1; }
static void drop(struct node *n) {
    if (n->left) drop(n->left), drop(n->right);
    free(n);
}
static uint64_t run_tree(void) {
    uint64_t sum = 0;
    for (int i = 0; i < 240; i++) {
        struct node *t = make(15);
        sum += check(t);
        drop(t);
    }
    return sum;
}

static uint64_t run_printf(void) {
    char line[128];
    uint64_t sum = 0;
    for (int i = 0; i < 500000; i++) {
        int n = snprintf(line, sizeof line, "%d %08x %s %.6f", i, i * 2654435761u, "text", i * 0.37);
        sum += n + (uint64_t)strtod(line + n - 8, NULL) + strtol(line, NULL, 10);
    }
    return sum;
}

static const struct { const char *name; uint64_t (*run)(void); } kernels[] = {
    {"fib", run_fib}, {"sieve", run_sieve}, {"sha256", run_sha256}, {"matmul", run_matmul}, {"quicksort", run_quicksort}, {"interpreter", run_interpreter},
    {"strings", run_strings}, {"nbody", run_nbody}, {"hashmap", run_hashmap}, {"tree", run_tree}, {"printf", run_printf},
};

int main(int argc, char **argv) {
    for (unsigned i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (argc == 2 && strcmp(argv[1], kernels[i].name) == 0) {
            printf("%s %llu\n", argv[1], (unsigned long long)kernels[i].run());
            return 0;
        }
    fprintf(stderr, "usage: kernels NAME\n");
    return 2;
}
