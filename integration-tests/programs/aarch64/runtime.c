// The smallest runtime that lifted code for AArch64 can run in: one thread of one static program at fixed addresses, on Linux or under qemu-aarch64. `cargo xtask suite aarch64` compiles and calls it.
// It is no beginning of vkernel for AArch64: it checks nothing, knows two dozen system calls and forgets what does not matter to the programs of that suite. What it does prove is the contract of the code (ARCHITECTURE.md, "The guest ABI").
//     runtime PROGRAM STRUCTURED.wasm STRUCTURED.placed RESUMABLE.placed RESUMABLE.so FORM [ARGUMENT...]
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// `syscalls::abi::CpuState`, and `Links` behind it.
struct cpu {
    uint64_t gpr[16], rip, fs_base, gs_base;
    uint32_t cf, pf, af, zf, sf, of, df, mxcsr, poll, stop, lazy_rsp;
    uint8_t pad[0x100 - 0xc4];
    uint64_t xmm[16][2];
    uint8_t st[8][16];
    uint16_t fcw, fsw, fempty, ftop;
    uint8_t pad2[0x300 - 0x288];
    uint64_t scratch[4][2];
    uint8_t pad3[0x400 - 0x340];
    struct { uint64_t codemap, code, environment, imports[2]; } links;
};
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
_Static_assert(__builtin_offsetof(struct cpu, xmm) == 0x100 && __builtin_offsetof(struct cpu, scratch) == 0x300, "as in abi.rs");
static struct cpu *cpu;

static const uint64_t TAG = 1ull << 63, CODE_LIMIT = 1ull << 30, STACK_TOP = 0xc0000000, STACK_BYTES = 8 << 20, BRK_BYTES = 64 << 20;
static uint64_t brk_start, brk_now, mmap_next = 0x60000000;
static uint32_t *codemap;
static uint64_t *code;
static uint64_t *resumable;
static struct { uint32_t pc, function, block; } *blocks;
static uint32_t block_count;
static uint64_t vmctx[512];
static struct { uint64_t handler, flags, restorer, mask; } actions[65];
static uint64_t alternate_top;
static sigjmp_buf outside;
static int unknown_helper;

static void die(const char *what) {
    fprintf(stderr, "runtime: %s: %s\n", what, strerror(errno));
    exit(99);
}

static uint8_t *read_file(const char *path, size_t *bytes) {
    int fd = open(path, O_RDONLY);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) die(path);
    uint8_t *p = mmap(0, s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) die(path);
    close(fd);
    if (bytes) *bytes = s.st_size;
    return p;
}

static void *map_at(uint64_t at, uint64_t bytes, int protection) {
    uint64_t start = at & -4096ull;
    void *p = mmap((void *)start, at + bytes - start, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)start) die("map");
    return p;
}

// How structured code is called: x28 is the CPU state; eleven parameters, and ten results in the same places: x0 to x7, d0 to d2.
void enter_structured(uint64_t code, uint64_t registers[11], struct cpu *cpu);
void miss(void);
__asm__(
    ".globl enter_structured\nenter_structured:\n"
    " stp x29, x30, [sp, #-176]!\n stp x19, x20, [sp, #16]\n stp x21, x22, [sp, #32]\n stp x23, x24, [sp, #48]\n stp x25, x26, [sp, #64]\n stp x27, x28, [sp, #80]\n"
    " stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n stp d14, d15, [sp, #144]\n str x1, [sp, #160]\n"
    " mov x28, x2\n mov x9, x0\n mov x10, x1\n"
    " ldp x0, x1, [x10]\n ldp x2, x3, [x10, #16]\n ldp x4, x5, [x10, #32]\n ldp x6, x7, [x10, #48]\n ldp d0, d1, [x10, #64]\n ldr d2, [x10, #80]\n"
    " blr x9\n"
    " ldr x10, [sp, #160]\n stp x0, x1, [x10]\n stp x2, x3, [x10, #16]\n stp x4, x5, [x10, #32]\n stp x6, x7, [x10, #48]\n stp d0, d1, [x10, #64]\n"
    " ldp d14, d15, [sp, #144]\n ldp d12, d13, [sp, #128]\n ldp d10, d11, [sp, #112]\n ldp d8, d9, [sp, #96]\n"
    " ldp x27, x28, [sp, #80]\n ldp x25, x26, [sp, #64]\n ldp x23, x24, [sp, #48]\n ldp x21, x22, [sp, #32]\n ldp x19, x20, [sp, #16]\n ldp x29, x30, [sp], #176\n ret\n"
    // The miss stub: parameters rdi rsi rdx rsp rbx rbp r12 r13, r14 r15 rcx to the state; gives `TAG | rip` back.
    ".globl miss\nmiss:\n"
    " str x0, [x28, #56]\n str x1, [x28, #48]\n str x2, [x28, #16]\n mov w3, w3\n str x3, [x28, #32]\n str x4, [x28, #24]\n str x5, [x28, #40]\n str x6, [x28, #96]\n str x7, [x28, #104]\n"
    " str d0, [x28, #112]\n str d1, [x28, #120]\n str d2, [x28, #8]\n ldr x1, [x28, #128]\n orr x1, x1, #0x8000000000000000\n ret\n");

static const int PARAMETERS[11] = {RDI, RSI, RDX, RSP, RBX, RBP, 12, 13, 14, 15, RCX};
static const int RESULTS[10] = {RAX, -1, RDX, RSP, RBX, RBP, 12, 13, 14, 15};

// System calls, by x86-64's numbers.

static int64_t result_of(int64_t r) { return r < 0 ? -errno : r; }

static int64_t system_call(uint64_t n, uint64_t a, uint64_t b, uint64_t c) {
    switch (n) {
    case 0: return result_of(read(a, (void *)b, c));
    case 1: return result_of(write(a, (void *)b, c));
    case 3: return result_of(close(a));
    case 5: case 262: {
        // What stdio asks of its streams: a pipe.
        memset((void *)(n == 5 ? b : c), 0, 144);
        *(uint32_t *)((n == 5 ? b : c) + 24) = 0010600;
        return 0;
    }
    case 9: {
        uint64_t at = mmap_next;
        mmap_next += (b + 0xffff) & -0x10000ull;
        map_at(at, b, PROT_READ | PROT_WRITE);
        return at;
    }
    case 10: case 11: case 14: case 273: return 0;
    case 12:
        if (a >= brk_start && a < brk_start + BRK_BYTES) brk_now = a;
        return brk_now;
    case 13:
        if (a > 64) return -EINVAL;
        if (c) memcpy((void *)c, &actions[a], sizeof *actions);
        if (b) memcpy(&actions[a], (void *)b, sizeof *actions);
        return 0;
    case 16: return -ENOTTY;
    case 20: return result_of(writev(a, (struct iovec *)b, c));
    case 39: case 186: case 218: return 1;
    case 102: case 104: case 107: case 108: return 0;
    case 131:
        if (a) alternate_top = *(uint64_t *)a + *(uint64_t *)(a + 16);
        return 0;
    case 158:
        if (a != 0x1002) return -EINVAL;
        cpu->fs_base = b;
        return 0;
    case 228: return result_of(clock_gettime(a, (struct timespec *)b));
    case 318: return result_of(getrandom((void *)a, b, c));
    case 60: case 231: fflush(stdout), _exit(a);
    default: return -ENOSYS;
    }
}

static void syscall_import(void *environment) {
    (void)environment;
    cpu->gpr[RAX] = system_call(cpu->gpr[RAX], cpu->gpr[RDI], cpu->gpr[RSI], cpu->gpr[RDX]);
}

// Helpers, by `abi::helper` and `abi::float`.

static void cpuid(void) {
    uint32_t leaf = cpu->gpr[RAX], r[4] = {0};
    if (leaf == 0) r[0] = 1, memcpy(&r[1], "Genu", 4), memcpy(&r[3], "ineI", 4), memcpy(&r[2], "ntel", 4);
    // Without SSE4.2, so that glibc leaves pcmpistri alone.
    if (leaf == 1) r[0] = 0x106a5, r[1] = 8 << 8, r[2] = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 23, r[3] = 1 | 1 << 4 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
    int order[4] = {RAX, RBX, RCX, RDX};
    for (int n = 0; n < 4; n++) cpu->gpr[order[n]] = r[n];
}

static uint64_t idiv(int64_t divisor) {
    __int128 n = (__int128)((unsigned __int128)cpu->gpr[RDX] << 64 | cpu->gpr[RAX]);
    unsigned __int128 most = (unsigned __int128)1 << 127;
    if (divisor == 0 || (divisor == -1 && (unsigned __int128)n == most)) return 1;
    __int128 q = n / divisor;
    if (q != (int64_t)q) return 1;
    cpu->gpr[RAX] = q, cpu->gpr[RDX] = n % divisor;
    return 0;
}

static uint64_t masked(uint64_t v, int width) { return width == 3 ? v : v & ((1ull << (8 << width)) - 1); }

// One thread alone: nothing else sees the steps.
static uint64_t locked(uint32_t op, uint64_t at, uint64_t b) {
    int width = op & 3;
    uint64_t old = 0, new;
    memcpy(&old, (void *)at, 1 << width);
    switch (op & ~3) {
    case 16: new = old + b; break;
    case 20: new = old - b; break;
    case 24: new = old & b; break;
    case 28: new = old | b; break;
    case 32: new = old ^ b; break;
    case 36: new = b; break;
    default: new = old == masked(cpu->scratch[0][0], width) ? b : old;
    }
    memcpy((void *)at, &new, 1 << width);
    return old;
}

static uint64_t cmpxchg16b(uint64_t at) {
    uint64_t *p = (uint64_t *)at;
    if (p[0] == cpu->gpr[RAX] && p[1] == cpu->gpr[RDX]) return p[0] = cpu->gpr[RBX], p[1] = cpu->gpr[RCX], 1;
    cpu->gpr[RAX] = p[0], cpu->gpr[RDX] = p[1];
    return 0;
}

static uint64_t crc32(int width, uint32_t crc, uint64_t data) {
    for (int n = 0; n < 1 << width; n++) {
        crc ^= (uint8_t)(data >> 8 * n);
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return crc;
}

// Rounded by a mode of MXCSR, as the immediates of roundsd have it too.
static double rounded(double v, int mode) {
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    int before = fegetround();
    fesetround(modes[mode & 3]);
    volatile double operand = v;
    double r = nearbyint(operand);
    fesetround(before);
    return r;
}

static double of_double(uint64_t v) { return ((union { uint64_t i; double d; }){v}).d; }
static double of_single(uint32_t v) { return ((union { uint32_t i; float f; }){v}).f; }
static uint64_t word(double v, int mode) { v = rounded(v, mode); return v >= -0x1p31 && v < 0x1p31 ? (uint32_t)(int32_t)v : 0x80000000; }
static uint64_t quad(double v, int mode) { v = rounded(v, mode); return v >= -0x1p63 && v < 0x1p63 ? (uint64_t)(int64_t)v : 1ull << 63; }
static uint64_t quiet(uint64_t v) { return isnan(of_double(v)) ? v | 1ull << 51 : v; }
static uint32_t quiet_single(uint32_t v) { return isnan(of_single(v)) ? v | 1u << 22 : v; }
static uint32_t round_single(uint32_t v, int mode) { return isnan(of_single(v)) ? quiet_single(v) : ((union { float f; uint32_t i; }){(float)rounded(of_single(v), mode)}).i; }
static uint64_t round_double(uint64_t v, int mode) { return isnan(of_double(v)) ? quiet(v) : ((union { double d; uint64_t i; }){rounded(of_double(v), mode)}).i; }

static uint64_t floating(uint32_t op, uint64_t a, uint64_t b) {
    int mode = cpu->mxcsr >> 13 & 3;
    switch (op) {
    case 128 ... 131: return 0;
    case 132: return word(of_single(a), mode);
    case 133: return quad(of_single(a), mode);
    case 134: return word(of_double(a), mode);
    case 135: return quad(of_double(a), mode);
    case 136: return word(of_single(a), 3);
    case 137: return quad(of_single(a), 3);
    case 138: return word(of_double(a), 3);
    case 139: return quad(of_double(a), 3);
    case 140: case 142: mode = op == 142 ? 3 : mode; return word(of_single(a), mode) | word(of_single(a >> 32), mode) << 32;
    case 141: case 143: mode = op == 143 ? 3 : mode; return word(of_double(a), mode) | word(of_double(b), mode) << 32;
    default: break;
    }
    mode = op & 4 ? mode : (int)(op & 3);
    return op < 160 ? round_single(a, mode) | (uint64_t)round_single(a >> 32, mode) << 32 : round_double(a, mode);
}

static uint64_t helper_import(void *environment, uint32_t op, uint64_t a, uint64_t b) {
    (void)environment;
    switch (op) {
    case 1: return cpuid(), 0;
    case 2: return clock();
    case 4: return (unsigned __int128)a * b >> 64;
    case 5: return (__int128)(int64_t)a * (int64_t)b >> 64;
    case 6: return ((unsigned __int128)b << 64 | cpu->gpr[RAX]) / a;
    case 7: return idiv(a);
    case 8: return cmpxchg16b(a);
    case 16 ... 43: return locked(op, a, b);
    case 52 ... 55: return crc32(op - 52, a, b);
    case 57:
        if (a >> 16) siglongjmp(outside, 2);
        cpu->mxcsr = a;
        return 0;
    case 65: return cpu->mxcsr;
    case 128 ... 175: return floating(op, a, b);
    }
    unknown_helper = op;
    siglongjmp(outside, 1);
}

// The compiler's runtime for the resumable form.
static void memory_copy(void *v, uint32_t t, uint32_t f, uint32_t to, uint32_t from, uint32_t len) { (void)v, (void)t, (void)f, memmove((void *)(uint64_t)to, (void *)(uint64_t)from, len); }
static void memory_fill(void *v, uint32_t m, uint32_t to, uint32_t byte, uint32_t len) { (void)v, (void)m, memset((void *)(uint64_t)to, byte, len); }

// Files of the build.

static uint64_t leb(const uint8_t **p) {
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t byte = *(*p)++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) return v;
    }
}

// `vkernel.entries`: what is called structured.
static void entries(const char *path) {
    size_t bytes;
    const uint8_t *p = read_file(path, &bytes), *end = p + bytes;
    for (p += 8; p < end;) {
        uint8_t id = *p++;
        uint64_t size = leb(&p);
        const uint8_t *body = p, *behind = p += size;
        if (id || leb(&body) != 15 || memcmp(body, "vkernel.entries", 15)) continue;
        for (body += 15; body < behind; body += 8) codemap[*(uint32_t *)body] = *(uint32_t *)(body + 4) + 1;
        return;
    }
    die("no entries");
}

// What the example `place` of the crate loader wrote: how VMContext is laid out, the functions' addresses, and from the next page on the code.
static uint64_t *placed(const char *path, uint64_t at, const uint64_t **layout, uint64_t *count) {
    size_t bytes;
    uint64_t *p = (uint64_t *)read_file(path, &bytes), *functions = p + 16;
    *layout = p;
    *count = p[15];
    size_t head = ((16 + *count) * 8 + 4095) & -4096ul;
    memcpy(map_at(at, bytes - head, PROT_READ | PROT_WRITE), (uint8_t *)p + head, bytes - head);
    mprotect((void *)at, bytes - head, PROT_READ | PROT_EXEC);
    __builtin___clear_cache((char *)at, (char *)at + bytes - head);
    return functions;
}

static void block_table(const char *path) {
    uint8_t *file = read_file(path, 0);
    Elf64_Ehdr *e = (void *)file;
    Elf64_Phdr *h = (void *)(file + e->e_phoff);
    for (int n = 0; n < e->e_phnum; n++) {
        if (h[n].p_type != 0x6000766b) continue;
        uint32_t *table = (uint32_t *)(file + h[n].p_offset);
        block_count = table[2];
        blocks = (void *)(table + 4);
        return;
    }
    die("no blocks");
}

static uint64_t program(const char *path, int argc, char **argv) {
    uint8_t *file = read_file(path, 0);
    Elf64_Ehdr *e = (void *)file;
    Elf64_Phdr *h = (void *)(file + e->e_phoff);
    uint64_t first = -1ull, end = 0;
    for (int n = 0; n < e->e_phnum; n++) {
        if (h[n].p_type != PT_LOAD) continue;
        if (h[n].p_vaddr < first) first = h[n].p_vaddr;
        if (h[n].p_vaddr + h[n].p_memsz > end) end = h[n].p_vaddr + h[n].p_memsz;
    }
    brk_now = brk_start = (end + 4095) & -4096ull;
    map_at(first, brk_start + BRK_BYTES - first, PROT_READ | PROT_WRITE);
    for (int n = 0; n < e->e_phnum; n++)
        if (h[n].p_type == PT_LOAD) memcpy((void *)h[n].p_vaddr, file + h[n].p_offset, h[n].p_filesz);
    map_at(STACK_TOP - STACK_BYTES, STACK_BYTES, PROT_READ | PROT_WRITE);
    uint64_t top = STACK_TOP - 16;
    uint64_t at[64];
    for (int n = 0; n < argc; n++) top -= strlen(argv[n]) + 1, strcpy((char *)top, argv[n]), at[n] = top;
    top -= 16;
    uint64_t random = top;
    uint64_t auxiliary[][2] = {{AT_PHDR, first + e->e_phoff}, {AT_PHENT, 56}, {AT_PHNUM, e->e_phnum}, {AT_PAGESZ, 4096}, {AT_ENTRY, e->e_entry}, {AT_UID, 0}, {AT_EUID, 0}, {AT_GID, 0}, {AT_EGID, 0}, {AT_SECURE, 0}, {AT_RANDOM, random}, {AT_NULL, 0}};
    uint64_t words = 1 + argc + 1 + 1 + sizeof auxiliary / 8;
    uint64_t *stack = (uint64_t *)((top - 8 * words) & -16ull);
    cpu->gpr[RSP] = (uint64_t)stack;
    *stack++ = argc;
    for (int n = 0; n < argc; n++) *stack++ = at[n];
    *stack++ = 0, *stack++ = 0;
    memcpy(stack, auxiliary, sizeof auxiliary);
    return e->e_entry;
}

// A handler that does not return: nothing of the state is kept for one that does.
static void deliver(int signal) {
    if (actions[signal].handler < 2) fprintf(stderr, "runtime: signal %d at %lx\n", signal, cpu->rip), exit(128 + signal);
    uint64_t rsp = actions[signal].flags & 0x08000000 && alternate_top ? alternate_top : cpu->gpr[RSP] - 128;
    rsp = (rsp & -16ull) - 8;
    *(uint64_t *)rsp = actions[signal].restorer;
    cpu->gpr[RSP] = rsp, cpu->gpr[RDI] = signal, cpu->rip = actions[signal].handler, cpu->df = 0;
}

static int find(uint32_t pc) {
    uint32_t low = 0, high = block_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (blocks[middle].pc < pc) low = middle + 1;
        else high = middle;
    }
    return low < block_count && blocks[low].pc == pc ? (int)low : -1;
}

// ARCHITECTURE.md, "The dispatcher". How often each form was entered says that both were.
static void dispatch(int both) {
    static const int signals[] = {0, 4, 4, 5, 8, 11};
    switch (sigsetjmp(outside, 0)) {
    case 0: break;
    case 2: deliver(11); break;
    default:
        // A helper that this runtime lacks: for a program an instruction that is not there.
        fprintf(stderr, "runtime: helper %d\n", unknown_helper);
        deliver(4);
    }
    for (;;) {
        cpu->poll = 0;
        if (cpu->stop) {
            int stop = cpu->stop;
            cpu->stop = 0;
            deliver(signals[stop]);
        }
        uint64_t pc = cpu->rip, next;
        if (both && pc < CODE_LIMIT && codemap[pc]) {
            uint64_t registers[11];
            cpu->lazy_rsp = 0;
            for (int n = 0; n < 11; n++) registers[n] = cpu->gpr[PARAMETERS[n]];
            enter_structured(code[codemap[pc]], registers, cpu);
            next = registers[1];
            if (!(next & TAG))
                for (int n = 0; n < 10; n++)
                    if (n != 1) cpu->gpr[RESULTS[n]] = n == 3 ? (uint32_t)registers[n] : registers[n];
        } else {
            int block = find(pc);
            if (block < 0) {
                deliver(11);
                continue;
            }
            next = ((uint64_t(*)(void *, uint32_t))resumable[blocks[block].function])(vmctx, blocks[block].block);
        }
        cpu->rip = next & ~TAG;
    }
}

int main(int argc, char **argv) {
    if (argc < 7) return 2;
    cpu = map_at(0x200000000000, 0x10000, PROT_READ | PROT_WRITE);
    cpu->mxcsr = 0x1f80, cpu->fcw = 0x37f, cpu->fempty = 0xff;
    codemap = map_at(0x210000000000, 4 * CODE_LIMIT, PROT_READ | PROT_WRITE);
    const uint64_t *layout;
    uint64_t structured_count, resumable_count;
    uint64_t *structured = placed(argv[3], 0x100000000000, &layout, &structured_count);
    resumable = placed(argv[4], 0x110000000000, &layout, &resumable_count);
    entries(argv[2]);
    block_table(argv[5]);
    code = calloc(structured_count + 1, 8);
    code[0] = (uint64_t)miss;
    memcpy(code + 1, structured, 8 * structured_count);
    cpu->links.codemap = (uint64_t)codemap, cpu->links.code = (uint64_t)code;
    cpu->links.imports[0] = (uint64_t)syscall_import, cpu->links.imports[1] = (uint64_t)helper_import;
    static struct { void *base; uint64_t length; } memories[3];
    memories[1].base = cpu, memories[2].base = codemap;
    for (int n = 0; n < 3; n++) vmctx[layout[n] / 8] = (uint64_t)&memories[n];
    vmctx[layout[3] / 8] = (uint64_t)syscall_import, vmctx[layout[4] / 8] = (uint64_t)helper_import;
    vmctx[layout[5] / 8] = (uint64_t)memory_copy, vmctx[layout[6] / 8] = (uint64_t)memory_fill;
    int both = strcmp(argv[6], "resumable");
    // The guest's arguments begin with its own name.
    argv[6] = argv[1];
    cpu->rip = program(argv[1], argc - 6, argv + 6);
    dispatch(both);
}
