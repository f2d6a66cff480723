/* What clang calls for exceptions of C++ as WebAssembly has them, as far as tests need it: classes with at most one base, by reference or value, and int. The standard library's own is not there for WASI with exceptions. */
#include <stdlib.h>

__asm__(".globl __cpp_exception\n.tagtype __cpp_exception i32\n__cpp_exception:\n");

/* Before the object that is thrown. */
struct thrown {
    const void *const *type;
    void *(*destroy)(void *);
    int handlers, again;
    struct thrown *below;
    long long object[];
};

/* What a landing pad tells: which one it is, of which table; and is told: the number of the type that fits. */
struct { int place; const unsigned char *table; int selected; } __wasm_lpad_context;

/* Type information begins with the address of such a table's third word. */
const void *const _ZTVN10__cxxabiv117__class_type_infoE[3], *const _ZTVN10__cxxabiv120__si_class_type_infoE[3], *const _ZTVN10__cxxabiv123__fundamental_type_infoE[3];
const void *const _ZTIi[] = {&_ZTVN10__cxxabiv123__fundamental_type_infoE[2], "i"}, *const _ZTIj[] = {&_ZTVN10__cxxabiv123__fundamental_type_infoE[2], "j"};

static struct thrown *caught;

void _ZSt9terminatev(void) { abort(); }
void _ZdlPv(void *p) { free(p); }
void _ZdlPvm(void *p, size_t n) { (void)n; free(p); }

void *__cxa_allocate_exception(size_t n) { return ((struct thrown *)calloc(1, sizeof(struct thrown) + n))->object; }
void __cxa_free_exception(void *object) { free((char *)object - sizeof(struct thrown)); }

_Noreturn void __cxa_throw(void *object, const void *type, void *(*destroy)(void *)) {
    struct thrown *t = (struct thrown *)((char *)object - sizeof *t);
    t->type = type;
    t->destroy = destroy;
    __builtin_wasm_throw(0, t);
}

void *__cxa_begin_catch(struct thrown *t) {
    t->again = 0;
    if (t->handlers++ == 0) {
        t->below = caught;
        caught = t;
    }
    return t->object;
}

void *__cxa_get_exception_ptr(struct thrown *t) { return t->object; }

void __cxa_end_catch(void) {
    struct thrown *t = caught;
    if (--t->handlers > 0) return;
    caught = t->below;
    if (t->again) return;
    if (t->destroy) t->destroy(t->object);
    free(t);
}

_Noreturn void __cxa_rethrow(void) {
    caught->again = 1;
    __builtin_wasm_throw(0, caught);
}

static unsigned number(const unsigned char **at) {
    unsigned value = 0, shift = 0;
    do value |= (**at & 127u) << shift, shift += 7;
    while (*(*at)++ & 128);
    return value;
}

static int signed_number(const unsigned char **at) {
    unsigned shift = 0;
    const unsigned char *begin = *at;
    unsigned value = number(at);
    shift = 7 * (unsigned)(*at - begin);
    return (int)(value << (32 - shift)) >> (32 - shift);
}

static int fits(const void *const *type, const void *wanted) {
    for (;;) {
        if (!wanted || type == wanted) return 1;
        if (type[0] != &_ZTVN10__cxxabiv120__si_class_type_infoE[2]) return 0;
        type = type[2];
    }
}

int __gxx_wasm_personality_v0(int unused) { return unused; }

/* The table: two encodings, where types end; encoding and length of the places, each with its number and its first action; actions, each a type's number and the way to the next; types, backwards. */
int _Unwind_CallPersonality(struct thrown *t) {
    __wasm_lpad_context.selected = 0;
    const unsigned char *at = __wasm_lpad_context.table + 2;
    unsigned length = number(&at);
    const void *const *types = (const void *const *)(at + length);
    at++;
    length = number(&at);
    const unsigned char *action = at + length - 1;
    unsigned first = 0;
    for (int i = 0; i <= __wasm_lpad_context.place; i++) {
        number(&at);
        first = number(&at);
    }
    if (first == 0) return 0;
    for (at = action + first;;) {
        int type = signed_number(&at);
        const unsigned char *from = at;
        int next = signed_number(&at);
        if (type > 0 && fits(t->type, types[-type])) return __wasm_lpad_context.selected = type;
        if (next == 0) return 0;
        at = from + next;
    }
}
