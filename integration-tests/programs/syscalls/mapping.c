/* mmap, mprotect, mremap, munmap, madvise, mincore, msync: results and bytes. */
#include "facts.h"
static long page = 4096;
static int readable(char *p) { int fd[2]; pipe(fd); long n = write(fd[1], p, 1); close(fd[0]); close(fd[1]); return n == 1; }
static const char constants[8192] __attribute__((aligned(4096))) = {5, [4096] = 6};
int main(void) {
    begin();
    char *p = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 7, 4 * page);
    say("munmap middle", munmap(p + page, page));
    fact("first", readable(p)); fact("hole", readable(p + page)); fact("third", readable(p + 2 * page));
    say("munmap again", munmap(p + page, page));
    say("munmap odd", munmap(p + 1, page));
    say("munmap none", munmap(p, 0));
    say("mprotect hole", mprotect(p, 4 * page, PROT_READ));
    char *q = mmap(p + page, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    fact("fixed", q == p + page); fact("zero", q[5]);
    fact("noreplace", mmap(p, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
    say("protect", mprotect(p, page, PROT_NONE));
    fact("protected", readable(p));
    p[2 * page] = 9;
    char *r = mremap(p + 2 * page, page, 40 * page, MREMAP_MAYMOVE);
    fact("moved", r[0]); fact("grown", r[39 * page]);
    say("shrunk", mremap(r, 40 * page, 2 * page, 0) == r ? 0 : -1);
    fact("cut", readable(r + 2 * page));
    fact("mremap unmapped", mremap(r + 2 * page, page, page * 2, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
    fact("len 0", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0);
    fact("no type", mmap(NULL, page, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0);
    fact("bad fd", mmap(NULL, page, PROT_READ, MAP_PRIVATE, 99, 0) == MAP_FAILED ? errno : 0);
    int f = open("f", O_RDWR | O_CREAT, 0600);
    ftruncate(f, 2 * page);
    fact("odd offset", mmap(NULL, page, PROT_READ, MAP_PRIVATE, f, 12) == MAP_FAILED ? errno : 0);
    char *s = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    char *t = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, f, 0);
    strcpy(s, "shared");
    printf("%s\n", t);
    strcpy(t, "private");
    printf("%s %s\n", s, t);
    say("msync", msync(s, page, MS_SYNC));
    s = mremap(s, 2 * page, 3 * page, MREMAP_MAYMOVE);
    printf("%s\n", s);
    unsigned char in[4];
    say("mincore", mincore(s, page, in));
    say("mincore hole", mincore(r + 2 * page, page, in));
    r[0] = 3;
    say("dontneed", madvise(r, page, MADV_DONTNEED));
    fact("after", r[0]);
    say("madvise odd", madvise(r + 1, page, MADV_DONTNEED));
    say("madvise bad", madvise(r, page, 999));
    say("madvise far", madvise(WILD, page, MADV_DONTNEED));
    char *several = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(several + page, page, PROT_READ);
    say("shrunk over several", mremap(several, 4 * page, page, 0) == several ? 0 : -1);
    fact("stays", readable(several)); fact("cut", readable(several + page)); fact("cut", readable(several + 3 * page));
    several = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    several[0] = 4; mprotect(several + page, page, PROT_READ);
    char *place = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fact("moved and shrunk", mremap(several, 4 * page, page, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place && *place == 4);
    fact("cut", readable(several + 3 * page));
    /* What a program's file has no write permission for. */
    say("constants written", mprotect((void *)constants, page, PROT_READ | PROT_WRITE));
    ((volatile char *)constants)[1] = 8;
    printf("%d %d %d\n", ((volatile char *)constants)[0], ((volatile char *)constants)[1], ((volatile char *)constants)[page]);
    say("and protected", mprotect((void *)constants, page, PROT_READ));
    int ro = open("f", O_RDONLY);
    fact("write shared of read-only", mmap(NULL, page, PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED ? errno : 0);
    char *b = sbrk(0);
    fact("brk", brk(b + 10 * page)); b[9 * page] = 1;
    fact("brk back", brk(b)); fact("gone", readable(b + 9 * page));
    char *sh = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!fork()) { sh[0] = 11; _exit(0); }
    wait(NULL);
    fact("shared with the child", sh[0]);
    unlink("f");
}
