// Returns that are jumps, results and arguments that only pass through a function, and an interpreter's dispatch: what a register means where nobody has just written it.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#define APART __attribute__((noinline, noclone))

struct text { const char *p; size_t n; };

// rdx comes in as the third argument and goes out as the second half of the result, never written. (Rust's `trim_start`, C++'s string_view.)
struct text skip(void *unused, const char *p, size_t n);
// The same through a retpoline, through `push; ret`, and behind a return thunk.
struct text skip_by_thunk(void *unused, const char *p, size_t n);
struct text skip_by_push(void *unused, const char *p, size_t n);
struct text skip_with_thunk(void *unused, const char *p, size_t n);
long six(long a, long b, long c, long d, long e, long f) { return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f; }
long six_by_thunk(long a, long b, long c, long d, long e, long f);
double half(double x) { return x / 2; }
double half_by_push(double x);
__asm__(".text\n"
        ".globl skip, skip_by_thunk, skip_by_push, skip_with_thunk, six_by_thunk, half_by_push\n"
        ".type skip,@function\nskip: movq %rsi, %rax\n1: cmpb $32, (%rax)\n jne 2f\n incq %rax\n jmp 1b\n2: ret\n"
        "thunk: call 1f\n2: pause\n lfence\n jmp 2b\n1: movq %r11, (%rsp)\n ret\n"
        ".type skip_by_thunk,@function\nskip_by_thunk: subq $8, %rsp\n leaq skip(%rip), %r11\n call thunk\n addq $8, %rsp\n ret\n"
        ".type skip_by_push,@function\nskip_by_push: leaq skip(%rip), %r11\n pushq %r11\n ret\n"
        "gone: leaq 8(%rsp), %rsp\n ret\n"
        ".type skip_with_thunk,@function\nskip_with_thunk: movq %rsi, %rax\n call gone\n ud2\n"
        ".type six_by_thunk,@function\nsix_by_thunk: leaq six(%rip), %r11\n jmp thunk\n"
        ".type half_by_push,@function\nhalf_by_push: leaq half(%rip), %r11\n pushq %r11\n ret\n");

static struct text (*volatile skips[])(void *, const char *, size_t) = {skip, skip_by_thunk, skip_by_push, skip_with_thunk};

// A function that ends with a call that never returns; what lies behind it is another function's.
static jmp_buf back;
static APART void __attribute__((noreturn)) leave(int k) { longjmp(back, k); }
static APART int checked(int k, int *left) {
    if (k > 2) {
        *left = k;
        leave(k);
    }
    return k * 3;
}

// Variable arguments: all registers of arguments are saved at entry, and few of them mean something.
static APART double sum(const char *kinds, ...) {
    va_list list;
    double total = 0;
    va_start(list, kinds);
    for (; *kinds; kinds++) total += *kinds == 'd' ? va_arg(list, double) : va_arg(list, long);
    va_end(list);
    return total;
}
static double (*volatile any_sum)(const char *, ...) = sum;

// An interpreter with a dispatch of its own in every handler: operations see variables that live across it, and call what nobody knows with the opcode as an argument.
static long apply(long a, int op, long b) { return op == 3 ? a + b : op == 4 ? a * b : op == 5 ? a - b : a ^ b; }
static long (*volatile unknown)(long, int, long) = apply;
static APART long run(const unsigned char *code) {
    static void *const table[] = {&&halt, &&push, &&dup, &&add, &&mul, &&sub, &&xor_, &&swap, &&drop, &&inc, &&text};
    long stack[16], *top = stack;
    struct text last = {"", 0};
    int op;
    *top = 0;
#define NEXT goto *table[op = *code++]
    NEXT;
push: *++top = *code++; NEXT;
dup: top[1] = *top, top++; NEXT;
add: top--, *top = unknown(*top, op, top[1]); NEXT;
mul: top--, *top = unknown(*top, op, top[1]); NEXT;
sub: top--, *top = unknown(*top, op, top[1]); NEXT;
xor_: top--, *top = unknown(*top, op, top[1]); NEXT;
swap: { long t = *top; *top = top[-1], top[-1] = t; } NEXT;
drop: top--; NEXT;
inc: ++*top; NEXT;
text: last = skips[*code++ & 3](0, "   abc", 6); *top += (long)last.n + *last.p; NEXT;
halt: return *top + (long)last.n;
}

int main(int argc, char **argv) {
    (void)argv;
    for (unsigned k = 0; k < 3u + argc; k++) {
        struct text t = skips[k](argv, "  words", 7);
        printf("%s %zu\n", t.p, t.n);
    }
    printf("%ld %ld\n", six(1, 2, 3, 4, 5, 6), six_by_thunk(1, 2, 3, 4, 5, 6));
    printf("%g %g\n", half(argc), half_by_push(argc + 2));
    int left = 0, k = setjmp(back);
    for (volatile int i = k + 1; i < 6; i++) printf("%d\n", checked(i, &left));
    printf("left %d\n", left);
    printf("%g %g\n", sum("ddl", 1.5, 2.25, 3L), any_sum("ldldldddd", 1L, 2.0, 3L, 4.0, 5L, 6.0, 7.0, 8.0, 9.0));
    static const unsigned char code[] = {1, 7, 2, 3, 1, 5, 4, 9, 1, 3, 5, 10, 0, 10, 1, 10, 2, 10, 3, 2, 6, 1, 9, 7, 8, 1, 2, 3, 1, 77, 6, 0};
    printf("%ld\n", run(code));
    return 0;
}
