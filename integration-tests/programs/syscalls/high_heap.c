/* Address space from 8 GiB on, as GHC's runtime reserves its heap: less and less until there is some, and pages committed within. */
#include "facts.h"
#include <linux/futex.h>
#define LEAST ((char *)(8ull << 30))
#define COMMIT (MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
int main(void) {
    begin();
    size_t len = 1ull << 40;
    char *heap = MAP_FAILED;
    while (heap == MAP_FAILED && len >= 1 << 20) {
        heap = mmap((void *)0x4200000000, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (heap == MAP_FAILED) len = (len - len / 8) & ~((1ull << 20) - 1);
    }
    fact("reserved", heap != MAP_FAILED);
    fact("from 8 GiB on", heap >= LEAST);
    fact("at least 1 GiB", len >= 1 << 30);
    char *p = heap + (64 << 20);
    fact("committed there", mmap(p, 1 << 20, PROT_READ | PROT_WRITE, COMMIT, -1, 0) == p);
    memset(p, 'h', 1 << 20);
    int f = ok("memfd", memfd_create("m", 0));
    say("write", write(f, p, 5000));
    struct iovec v[2] = {{p + 10000, 100}, {p + 30000, 50}};
    say("preadv", preadv(f, v, 2, 4900));
    fact("read", p[10099]);
    *(struct iovec *)p = (struct iovec){p + 20000, 6};
    say("writev of a vector there", writev(f, (struct iovec *)p, 1));
    fact("getcwd there", getcwd(p + 4096, 100) == p + 4096);
    struct stat *s = (struct stat *)(p + 8192);
    say("fstat there", fstat(f, s));
    fact("size", s->st_size);
    int word = 0, *far = (int *)(p + 12288);
    *far = 7;
    say("futex of another value", syscall(SYS_futex, far, FUTEX_WAIT, 8, NULL));
    say("futex wakes nobody", syscall(SYS_futex, far, FUTEX_WAKE, 1));
    say("futex here", syscall(SYS_futex, &word, FUTEX_WAKE, 1));
    say("mprotect", mprotect(p + 65536, 65536, PROT_READ));
    say("read into what is read-only", pread(f, p + 65536, 10, 0));
    say("madvise", madvise(p, 65536, MADV_DONTNEED));
    fact("dropped", p[100]);
    char *q = mremap(p + (512 << 10), 65536, 131072, MREMAP_MAYMOVE);
    fact("moved", q != MAP_FAILED && q[65535] == 'h' && q[65536] == 0);
    fact("file there", mmap(p, 4096, PROT_READ, MAP_FIXED | MAP_SHARED, f, 0) == p);
    fact("byte", p[4999 - 4096 + 100]);
    say("munmap", munmap(p, 4096));
    say("read into what is gone", pread(f, p, 10, 0));
    say("munmap all", munmap(heap, len));
    say("write from what is gone", write(f, p + 100000, 10));
    char *r = mmap(LEAST, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fact("hint of 8 GiB", r >= LEAST);
    r[5] = 'r';
    say("write", pwrite(f, r, 10, 0));
}
