// A C++ exception crosses a frame with alloca (rbp-based CFA), destructors run on the way, and the same throw works again afterwards.
#include <alloca.h>
#include <cstdio>
#include <cstring>
#include <stdexcept>

struct Trace {
    const char *name;
    ~Trace() { std::printf("~%s\n", name); }
};

__attribute__((noinline)) static int thrower(int n) {
    if (n == 0) throw std::runtime_error("bottom");
    return n + thrower(n - 1);
}

__attribute__((noinline)) static int middle(int n) {
    Trace t{"middle"};
    char *p = static_cast<char *>(alloca(64 * n));
    std::memset(p, n, 64 * n);
    int r = thrower(n);
    return r + p[63];
}

int main() {
    for (int n = 1; n < 6; n++) {
        try {
            Trace t{"main"};
            std::printf("%d\n", middle(n));
        } catch (const std::exception &e) {
            std::printf("caught %s at %d\n", e.what(), n);
        }
    }
    try {
        try {
            throw 7;
        } catch (int v) {
            std::printf("int %d\n", v);
            throw;
        }
    } catch (...) {
        std::puts("rethrown");
    }
}
