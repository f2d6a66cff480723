/* What Debian's wasi-libc lacks: setjmp and longjmp, as clang makes them of exceptions (-mllvm -wasm-enable-sjlj). */
#pragma once

struct __jump {
    /* Which call of which function may be jumped into, and where in it. */
    void *call;
    unsigned place;
    /* What is thrown: a pointer to these two. */
    struct { struct __jump *to; int value; } thrown;
};

typedef struct __jump jmp_buf[1];

#ifdef __cplusplus
extern "C" {
#endif
int setjmp(jmp_buf) __attribute__((__returns_twice__));
_Noreturn void longjmp(jmp_buf, int);
#ifdef __cplusplus
}
#endif
#define setjmp setjmp
