/* The three functions that clang calls for setjmp and longjmp, and the tag. A function that calls setjmp has a number for each such call, and tells its own calls apart by the address of one of its locals. It catches what is thrown here, and asks whether it is meant. */
#include "setjmp.h"

__asm__(".globl __c_longjmp\n.tagtype __c_longjmp i32\n__c_longjmp:\n");

void __wasm_setjmp(struct __jump *jump, unsigned place, void *call) {
    jump->call = call;
    jump->place = place;
}

/* 0: it is another one's. */
unsigned __wasm_setjmp_test(struct __jump *jump, void *call) { return jump->call == call ? jump->place : 0; }

_Noreturn void __wasm_longjmp(struct __jump *jump, int value) {
    jump->thrown.to = jump;
    jump->thrown.value = value ? value : 1;
    /* The number of longjmp's tag; C++'s is 0. */
    __builtin_wasm_throw(1, &jump->thrown);
}
