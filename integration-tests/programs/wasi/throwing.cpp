// Exceptions of C++: also compiled for WASI, with both of their forms, and natively. Without its library, which is not there for WASI with exceptions.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int depth;

struct Guard {
    const char *name;
    explicit Guard(const char *n) : name(n) { printf("%*s+ %s\n", depth++, "", name); }
    ~Guard() { printf("%*s- %s\n", --depth, "", name); }
};

struct Base {
    int value;
    explicit Base(int v) : value(v) {}
    Base(const Base &other) : value(other.value + 100) {}
    virtual ~Base() { printf("destroyed %d\n", value); }
    virtual const char *name() const { return "base"; }
};
struct Derived : Base {
    using Base::Base;
    const char *name() const override { return "derived"; }
};
struct Other { int value; };

__attribute__((noinline)) static int raise(int how) {
    Guard g("raise");
    switch (how) {
    case 1: throw 41;
    case 2: throw Base(2);
    case 3: throw Derived(3);
    case 4: throw Other{4};
    case 5: throw 5u;
    }
    return how;
}

__attribute__((noinline)) static int through(int how) {
    Guard g("through");
    try {
        return raise(how) + 1;
    } catch (Other &o) {
        Guard inner("other");
        return o.value * 10;
    }
}

/* Catches, throws the same again, and another one from within a clause. */
static int chosen(int how) {
    Guard g("chosen");
    try {
        try {
            return through(how);
        } catch (int i) {
            printf("int %d\n", i);
            throw;
        } catch (Derived &d) {
            printf("a %s, %d\n", d.name(), d.value);
            throw Base(d.value + 1);
        }
    } catch (Base &b) {
        printf("a %s, %d\n", b.name(), b.value);
        return b.value;
    } catch (int i) {
        printf("again %d\n", i);
        return i;
    }
}

static int (*volatile indirect)(int) = through;

struct Member {
    Guard first{"first member"};
    int value;
    Guard last{"last member"};
    explicit Member(int how) try : value(indirect(how)) {
        printf("made %d\n", value);
    } catch (int i) {
        printf("not made: %d\n", i);
    }
};

static int loop() {
    int sum = 0;
    for (int i = 0; i < 1000; i++) {
        try {
            try {
                if (i % 3 == 0) throw i;
                if (i % 5 == 0) continue;
                if (i == 900) break;
                sum += 1;
            } catch (int thrown) {
                if (thrown % 2) throw Other{thrown};
                sum += 2;
            }
        } catch (Other o) {
            sum += o.value;
        }
    }
    return sum;
}

static double recursive(int n, double d) {
    if (n == 0) throw 1;
    try {
        return recursive(n - 1, d * 2) + 1;
    } catch (int i) {
        if (i < 20) throw i + 1;
        return d;
    }
}

int main(int argc, char **argv) {
    for (int how = 0; how < 6; how++) {
        printf("how %d\n", how);
        try {
            printf("chosen %d\n", chosen(how));
        } catch (unsigned u) {
            printf("unsigned %u\n", u);
        }
    }
    for (int how = 0; how < 3; how++) {
        try {
            Member m(how);
        } catch (Base b) {
            printf("a copied %s, %d\n", b.name(), b.value);
        } catch (...) {
            printf("something\n");
        }
    }
    printf("loop %d, recursive %g\n", loop(), recursive(30, 1.5));
    fflush(stdout);
    if (argc > 1 && !strcmp(argv[1], "nobody")) raise(4);
    if (argc > 1 && !strcmp(argv[1], "terminate")) [](int n) noexcept { raise(n); }(1);
    return 5;
}
