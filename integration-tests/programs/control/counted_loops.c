// loop, loope and loopne with both counters, jrcxz and jecxz: no compiler makes them, hand-written assembly does.
#include <stdio.h>

#define LOOP(name, instruction) \
    __attribute__((noinline)) static void name(unsigned long count, unsigned long compare) { \
        unsigned long turns = 0, left = count; \
        __asm__ volatile("1: inc %0\n\tcmp %2, %0\n\t" instruction " 1b" : "+r"(turns), "+c"(left) : "r"(compare) : "cc"); \
        printf(#name " %lx %lx: %lu turns, %lx left\n", count, compare, turns, left); \
    }
LOOP(plain, "loop")
LOOP(equal, "loope")
LOOP(unequal, "loopne")
LOOP(plain_narrow, "addr32 loop")
LOOP(equal_narrow, "addr32 loope")
LOOP(unequal_narrow, "addr32 loopne")

static void zero(unsigned long count) {
    unsigned long wide = 0, narrow = 0;
    __asm__ volatile("jrcxz 1f\n\tinc %0\n1:\tjecxz 2f\n\tinc %1\n2:" : "+r"(wide), "+r"(narrow) : "c"(count) : "cc");
    printf("count %lx: %lu %lu\n", count, wide, narrow);
}

/* The flags are the comparison's: loop changes none. */
static void flags(void) {
    unsigned long left = 3, carries = 0;
    __asm__ volatile("1: stc\n\tloop 2f\n\tjmp 3f\n2:\tadc $0, %1\n\tjmp 1b\n3:\tadc $0, %1" : "+c"(left), "+r"(carries) : : "cc");
    printf("flags %lu %lu\n", left, carries);
}

int main(void) {
    static const unsigned long counts[] = {1, 2, 7, 0x100000003};
    for (int k = 0; k < 4; k++) {
        unsigned long n = counts[k];
        if (n < 100) plain(n, 0);
        equal(n, 1);
        unequal(n, 5);
        plain_narrow(n, 0);
        equal_narrow(n, 2);
        unequal_narrow(n, 5);
        zero(n);
    }
    zero(0);
    zero(0xffffffff00000000);
    flags();
    return 0;
}
