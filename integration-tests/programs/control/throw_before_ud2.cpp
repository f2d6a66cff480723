// A call that does not return, followed by ud2: as compilers other than gcc end such code. The unwinder restores its caller's callee-saved registers from what they were at that call.
#include <cstdio>
#include <stdexcept>

extern "C" __attribute__((noinline, noclone)) void fail(const char *why) { throw std::runtime_error(why); }

// No frame information of its own is needed beyond `sub rsp, 8`.
__asm__(".text\n.globl checked\n.type checked, @function\nchecked:\n.cfi_startproc\nsub $8, %rsp\n.cfi_adjust_cfa_offset 8\ntest %esi, %esi\njne 1f\nlea 2(%rdi,%rdi), %eax\nadd $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\nret\n1: .cfi_adjust_cfa_offset 8\nlea why(%rip), %rdi\ncall fail@plt\nud2\n.cfi_endproc\n.size checked, .-checked\n.section .rodata\nwhy: .asciz \"refused\"\n.text\n");
extern "C" int checked(int value, int refuse);

int main(int argc, char **argv) {
    long a = argc * 3, b = argc * 5, c = argc * 7, d = argc * 11, e = argc * 13, sum = 0;
    for (int k = 0; k < 40; k++) {
        // Five values that live across the call, in callee-saved registers.
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e));
        try {
            sum += checked(k, k % 3 == 0) + a;
        } catch (const std::exception &x) {
            sum += a + 2 * b + 3 * c + 4 * d + 5 * e + (x.what()[0] == 'r');
        }
        a += b, b ^= c, c += d, d -= e, e += k;
    }
    std::printf("%ld %ld %ld %ld %ld %ld\n", sum, a, b, c, d, e);
    return 0;
}
