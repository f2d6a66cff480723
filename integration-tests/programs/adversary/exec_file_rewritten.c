/* The file itself is changed while it is hashed: overwritten in place, cut off, and made longer again. What runs is a signed entry, or nothing. */
#include "attack.h"
static char *good, *bad;
static size_t length;
static int file;
static char *whole(const char *path, size_t *size) {
    int fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
    struct stat s;
    MUST(fstat(fd, &s));
    char *p = malloc(s.st_size);
    if (read(fd, p, s.st_size) != s.st_size) exit(3);
    close(fd);
    *size = s.st_size;
    return p;
}
static void rewrite(void) {
    pwrite(file, bad, length, 0); pwrite(file, good, length, 0);
    ftruncate(file, length / 2); pwrite(file, good, length, 0);
}
static void touch(void) { futimens(file, NULL); }
static void race(void (*work)(void), int hostile) {
    size_t n;
    good = whole(GOOD, &length); bad = whole(CANARY, &n);
    if (n < length) exit(3);
    copy(GOOD, "/tmp/file", 0755);
    file = MUST(open("/tmp/file", O_RDWR | O_CLOEXEC));
    pid_t pid = busy(work);
    long ran = 0, not = 0;
    char *argv[] = {"/tmp/file", NULL};
    while (shared->tried < tries && in_time()) {
        /* Natively a file that is open for writing is busy. */
        int error = execute_often("/tmp/file", argv, 50, ASKS);
        if (error == 0) { ran++; if (status_of_last) won("status %#x", status_of_last); } else not++;
    }
    rest(pid);
    note("%ld tries: %ld ran, %ld children refused", shared->tried, ran, not);
    if (hostile && shared->tried == ran) { note("no race took place"); exit(5); }
    if (!hostile && not) exit(4);
}
static void attack(void) { race(rewrite, 1); }
static void twin(void) { race(touch, 0); }
