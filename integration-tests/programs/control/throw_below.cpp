// A function without handlers that keeps many values throws at its end, or what it calls for ever does: its caller's handler finds the caller's registers, which that function never touched.
#include <cstdio>
#include <stdexcept>
#define APART __attribute__((noinline, noclone))

static APART long checked(const long *p, long n) {
    long a = 0, b = 1, c = 2, d = 3, e = 4, f = 5, g = 6, h = 7;
    for (long k = 0; k < n; k++) a += p[k], b ^= a, c += b * 3, d ^= c, e += d >> 1, f ^= e + k, g += f * 5, h ^= g;
    if ((a ^ b ^ c ^ d ^ e ^ f ^ g ^ h) & 1) throw std::runtime_error("odd");
    throw static_cast<long>(a + h);
}
static APART void step(long &left) {
    if (--left == 0) throw 7;
}
static APART void for_ever(long &left) {
    for (;;) step(left);
}

static APART long caught(const long *p, long n, long w, long x, long y, long z) {
    long u = w * 3, v = x * 5, s = y * 7, t = z * 11, left = n;
    try {
        checked(p, n);
    } catch (const std::runtime_error &error) {
        std::printf("%s %ld %ld %ld %ld\n", error.what(), u, v, s, t);
    } catch (long k) {
        std::printf("%ld %ld %ld %ld %ld\n", k, u, v, s, t);
    }
    try {
        for_ever(left);
    } catch (int k) {
        std::printf("%d %ld %ld %ld %ld\n", k, u, v, s, t);
    }
    return u ^ v ^ s ^ t;
}

int main(int argc, char **) {
    long values[12];
    for (long k = 0; k < 12; k++) values[k] = k * k + argc;
    long total = 0;
    for (long n = 1; n < 12; n++) total += caught(values, n, n, argc, total, n + 1);
    std::printf("%ld\n", total);
    return 0;
}
