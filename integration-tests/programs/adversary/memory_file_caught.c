/* Descriptors belong to all threads: another one uses the number that the open of /proc/self/mem has for the moment until it is judged. */
#include "attack.h"
static _Atomic int over;
static long long caught;
static off_t where;
static void *catch(void *unused) {
    (void)unused;
    char bytes[64];
    while (!over) for (int n = 3; n < 8; n++) if (pread(n, bytes, sizeof bytes, where) > 0) caught++;
    return NULL;
}
static char word[64];
static void race(const char *path) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) if (pthread_create(&threads[i], NULL, catch, NULL)) exit(3);
    for (long i = 0; i < tries * 10 && in_time(); i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) close(fd);
    }
    over = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}
static void attack(void) {
    where = (off_t)(uintptr_t)word;
    MUST(mkdir("/tmp/m", 0755));
    MUST(symlink("/proc/self/mem", "/tmp/m/link"));
    race("/proc/self/mem");
    over = 0;
    MUST(chdir("/tmp"));
    race("m/link");
    over = 0;
    MUST(chdir("/proc/self"));
    race("mem");
    if (caught) won("another thread read memory %lld times", caught);
}
static void twin(void) {
    race("/etc/passwd");
    if (!caught) note("no descriptor was caught");
}
