// Runs the generated forms (tools/lift/examples/instruction_twins.rs) from random states and prints one checksum per form.
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
    int32_t base, index, bit_offset, bytes, string, unused;
};
extern const struct form forms[];
extern const uint64_t form_count;

// The generated code knows these places.
struct {
    uint64_t gpr[16], flags, xmm[16][2];
} state;

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
    if (f->string) {
        state.gpr[6] = (uint64_t)data + 0x1000 + below(64);
        state.gpr[7] = below(2) ? state.gpr[6] + below(32) - 16 : (uint64_t)data + 0x2000 + below(64);
        state.gpr[1] = below(24);
        if (below(3) == 0) state.flags |= 0x400;
        if (below(2)) memset(data + 0xf00, below(2) ? 0x41 : 0, 0x400);
        if (below(2)) state.gpr[0] = below(2) ? 0x4141414141414141 : 0;
    }
    if (f->bit_offset >= 0) state.gpr[f->bit_offset] = below(8192) - 4096;
    if (f->index >= 0) state.gpr[f->index] = unit * below(8);
    if (f->base >= 0) state.gpr[f->base] = (uint64_t)data + 0x1000 + unit * below(8) - f->displacement;
}

static uint64_t checksum;
static void fold(uint64_t v) { checksum = (checksum ^ v) * 0x100000001b3, checksum ^= checksum >> 29; }

static sigjmp_buf fault;
static void on_fault(int signal) { siglongjmp(fault, signal); }

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 32;
    const char *only = argc > 2 ? argv[2] : "";
    signal(SIGFPE, on_fault);
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
            place(f);
            int signal = sigsetjmp(fault, 1);
            if (signal == 0) f->run();
            fold(signal);
            if (signal) continue;
            for (int n = 0; n < 16; n++) fold(state.gpr[n]);
            for (int n = 0; n < 32; n++) fold(state.xmm[n / 2][n % 2]);
            fold(state.flags & f->flags);
            for (unsigned n = 0; n < sizeof data / 8; n++) fold(((uint64_t *)data)[n]);
        }
        printf("%s %016lx\n", f->name, checksum);
    }
    return 0;
}
