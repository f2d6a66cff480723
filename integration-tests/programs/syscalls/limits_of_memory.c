/* RLIMIT_DATA counts private memory that can be written: mmap, mprotect, mremap and brk alike. Only brk did. */
#include "facts.h"
#include <sys/resource.h>
static const long MB = 1 << 20;
static long mapped(void *p) { return p == MAP_FAILED ? -1 : 0; }
int main(void) {
    begin();
    int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    char *small = mmap(NULL, MB, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    struct rlimit l = {64 * MB, 64 * MB};
    say("limit", setrlimit(RLIMIT_DATA, &l));
    say("too much", mapped(mmap(NULL, 128 * MB, PROT_READ | PROT_WRITE, anonymous, -1, 0)));
    say("shared is none", mapped(mmap(NULL, 128 * MB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
    char *p = mmap(NULL, 128 * MB, PROT_READ, anonymous, -1, 0);
    say("what is read is none", mapped(p));
    say("written", mprotect(p, 128 * MB, PROT_READ | PROT_WRITE));
    say("a part", mprotect(p, 8 * MB, PROT_READ | PROT_WRITE));
    say("as it was", mprotect(p, 8 * MB, PROT_READ | PROT_WRITE));
    say("grown", mapped(mremap(small, MB, 128 * MB, MREMAP_MAYMOVE)));
    say("grown a little", mapped(mremap(small, MB, 2 * MB, MREMAP_MAYMOVE)));
    char *q = mmap(NULL, 40 * MB, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    say("in the place of others", mapped(mmap(q, 40 * MB, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED, -1, 0)));
    say("brk", sbrk(128 * MB) == (void *)-1 ? -1 : 0);
}
