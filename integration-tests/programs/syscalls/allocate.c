/* fallocate, memfd_create, sparse files. */
#include "facts.h"
int main(void) {
    begin();
    int m = ok("memfd", memfd_create("m", MFD_CLOEXEC));
    say("fallocate", fallocate(m, 0, 0, 8192));
    say("size", lseek(m, 0, SEEK_END));
    say("keep size", fallocate(m, FALLOC_FL_KEEP_SIZE, 0, 16384));
    say("size", lseek(m, 0, SEEK_END));
    pwrite(m, "x", 1, 4096);
    say("punch", fallocate(m, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    char b = 1;
    say("pread", pread(m, &b, 1, 4096));
    fact("byte", b);
    say("zero length", fallocate(m, 0, 0, 0));
    say("negative", fallocate(m, 0, -1, 10));
    say("closed", fallocate(99, 0, 0, 10));
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
    fact("mapped", p != MAP_FAILED);
    p[5000] = 'z';
    say("pread", pread(m, &b, 1, 5000));
    fact("byte", b);
    say("write from map", write(m, p + 4096, 4096));
    munmap(p, 8192);
    say("write from unmapped", write(m, p, 1));
    say("readahead", readahead(m, 0, 4096));
    say("sync_file_range", sync_file_range(open("f", O_RDWR | O_CREAT, 0600), 0, 0, SYNC_FILE_RANGE_WRITE));
    unlink("f");
}
