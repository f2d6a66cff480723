// Runs generated code (tools/lift/examples: instruction_twins, random_blocks) from random states and prints one checksum per form.
// Link without PIE: addresses of the data are operands, and must be the same on both sides. A fault (#DE) is a result: its signal goes into the checksum.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct form {
    const char *name;
    void (*run)(void);
    uint64_t flags, displacement;
    int32_t base, index, bit_offset, bytes, kind, unused;
};
enum { PLAIN, STRING, STACK, FLAGS_ON_STACK, X87, STOP, MXCSR, FLOAT, BLOCK };
extern const struct form forms[];
extern const uint64_t form_count;

// The generated code knows these places. `fx` is what fxsave stores.
struct {
    uint64_t gpr[16], flags, xmm[16][2], own_rsp;
    unsigned char fx[512];
} state __attribute__((aligned(16)));

static unsigned char data[0x4000] __attribute__((aligned(4096)));
static uint64_t seed;

static uint64_t next(void) {
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t n) { return (next() >> 11) % n; }

static const uint64_t edges[] = {
    0, 1, 2, 7, 8, 0xf, 0x10, 0x1f, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
    0x7fffffffffffffff, 0x8000000000000000, ~0ull - 1, ~0ull, 0x3ff0000000000000, 0x3f8000003f800000, 0x7ff0000000000000, 0x7fc000007f800000,
};

static uint64_t value(void) {
    switch (below(8)) {
    case 0 ... 2: return edges[below(sizeof edges / sizeof *edges)];
    case 3: return below(300);
    case 4: return below(1ull << 32);
    case 5: return below(300) - 150;
    default: return next();
    }
}

static void place(const struct form *f) {
    uint64_t unit = f->bytes >= 16 ? 16 : 1;
    if (f->kind == STRING) {
        state.gpr[6] = (uint64_t)data + 0x1000 + below(64);
        state.gpr[7] = below(2) ? state.gpr[6] + below(32) - 16 : (uint64_t)data + 0x2000 + below(64);
        state.gpr[1] = below(24);
        if (below(3) == 0) state.flags |= 0x400;
        if (below(2)) memset(data + 0xf00, below(2) ? 0x41 : 0, 0x400);
        if (below(2)) state.gpr[0] = below(2) ? 0x4141414141414141 : 0;
    }
    if (f->kind == STACK || f->kind == FLAGS_ON_STACK) state.gpr[4] = (uint64_t)data + 0x1000 + 8 * below(8);
    if (f->bit_offset >= 0) state.gpr[f->bit_offset] = below(8192) - 4096;
    if (f->index >= 0) state.gpr[f->index] = unit * below(8);
    if (f->base >= 0) state.gpr[f->base] = (uint64_t)data + 0x1000 + unit * below(8) - f->displacement;
    if (f->kind == MXCSR) {
        // Any exception state, rounding and flushing; reserved bits would be #GP.
        memcpy(state.fx + 24, &(uint32_t){next() & 0xffff}, 4);
        memcpy(state.fx + 28, &(uint32_t){0x1f80}, 4);
        for (int n = 0; n < 0x1000; n += 4) data[0xc00 + n + 2] = data[0xc00 + n + 3] = 0;
    }
    // Any rounding and flags, all exceptions masked.
    if (f->kind == FLOAT) {
        memcpy(state.fx + 24, &(uint32_t){(next() & 0x603f) | 0x1f80}, 4);
        memcpy(state.fx + 28, &(uint32_t){0x1f80}, 4);
    }
    if (f->kind == BLOCK) {
        state.gpr[6] = (uint64_t)data + 0x1000 + 16 * below(16);
        state.gpr[7] = below(2) ? state.gpr[6] + 16 * below(4) : (uint64_t)data + 0x2000 + 16 * below(16);
        state.gpr[5] = below(8);
        state.gpr[4] = (uint64_t)data + 0x3000 + 8 * below(8);
    }
    // The other bits (trap, alignment check) would stop natively only.
    if (f->kind == FLAGS_ON_STACK) *(uint64_t *)state.gpr[4] = (next() & 0xcd5) | 0x202;
}

// Eight 80-bit values: edges of the double format widened, and any bits, which are often no number at all.
static void x87_state(void) {
    memset(state.fx, 0, sizeof state.fx);
    uint16_t control = 0x37f & ~0xf00, status = next() & 0x7f7f & ~0x80;
    control |= (uint16_t[]){0x300, 0x300, 0x200, 0x000}[below(4)] | below(4) << 10;
    memcpy(state.fx, &control, 2);
    memcpy(state.fx + 2, &status, 2);
    state.fx[4] = below(3) ? 0xff : next();
    memcpy(state.fx + 24, &(uint32_t){0x1f80}, 4);
    for (int n = 0; n < 8; n++) {
        union { uint64_t bits; double number; } v = {value()};
        long double number = below(3) ? v.number : (long double)(int64_t)v.bits;
        memcpy(state.fx + 32 + 16 * n, &number, 10);
        if (below(6) == 0) memcpy(state.fx + 32 + 16 * n, &(uint64_t[]){next(), next()}, 10);
    }
}

static uint64_t checksum;
static void fold(uint64_t v) { checksum = (checksum ^ v) * 0x100000001b3, checksum ^= checksum >> 29; }

// Control, status and tag words and the registers; not the instruction's address.
static void fold_x87(void) {
    uint64_t words = 0, low, high = 0;
    memcpy(&words, state.fx, 5);
    fold(words);
    for (int n = 0; n < 8; n++) {
        memcpy(&low, state.fx + 32 + 16 * n, 8);
        memcpy(&high, state.fx + 40 + 16 * n, 2);
        fold(low), fold(high);
    }
}

static void fold_all(const struct form *f) {
    for (int n = 0; n < 16; n++) fold(state.gpr[n]);
    for (int n = 0; n < 32; n++) fold(state.xmm[n / 2][n % 2]);
    if (f->kind == X87 || f->kind == BLOCK) fold_x87();
    if (f->kind == MXCSR || f->kind == FLOAT) fold(*(uint32_t *)(state.fx + 24));
    fold(state.flags & f->flags);
    for (unsigned n = 0; n < sizeof data / 8; n++) fold(((uint64_t *)data)[n]);
}

static sigjmp_buf fault;
static void on_fault(int signal) { siglongjmp(fault, signal); }

// With SHOW in the environment: the state after each round, to find what differs.
static void show(const struct form *f, int signal) {
    printf("%s signal %d flags %lx", f->name, signal, state.flags & f->flags);
    for (int n = 0; n < 16; n++) printf(" %lx", state.gpr[n]);
    for (int n = 0; n < 32; n++) printf(" %lx", state.xmm[n / 2][n % 2]);
    for (int n = 0; n < 160; n++) printf("%s%02x", n % 16 ? "" : " ", f->kind >= X87 ? state.fx[n] : 0);
    printf("\n");
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 32;
    const char *only = argc > 2 ? argv[2] : "";
    // rsp may point into the data.
    static unsigned char stack[65536];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
    int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
    for (int n = 0; n < 5; n++) sigaction(signals[n], &(struct sigaction){.sa_handler = on_fault, .sa_flags = SA_ONSTACK}, 0);
    for (uint64_t k = 0; k < form_count; k++) {
        const struct form *f = &forms[k];
        if (!strstr(f->name, only)) continue;
        seed = (k + 1) * 0x9e3779b97f4a7c15;
        checksum = 0xcbf29ce484222325;
        for (int round = 0; round < rounds; round++) {
            for (int n = 0; n < 16; n++) state.gpr[n] = value();
            for (int n = 0; n < 32; n++) state.xmm[n / 2][n % 2] = value();
            for (unsigned n = 0; n < sizeof data / 8; n++) ((uint64_t *)data)[n] = n % 64 < 16 ? value() : n;
            state.flags = (next() & 0x8d5) | 0x202;
            if (f->kind == X87 || f->kind == BLOCK) x87_state();
            place(f);
            int signal = sigsetjmp(fault, 1);
            if (signal == 0) f->run();
            fold(signal);
            if (getenv("SHOW")) show(f, signal);
            if (signal == 0) fold_all(f);
        }
        printf("%s %016lx\n", f->name, checksum);
    }
    return 0;
}
