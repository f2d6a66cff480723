/* /proc/self/task/TID/mem, opened while that thread ends: procfs then calls the open file "mem (deleted)", which is no name that anybody looks for.
 * It is so called once somebody else has looked the name up again, below a directory that is still open. */
#include "attack.h"
static _Atomic int tid;
static void *brief(void *unused) {
    (void)unused;
    tid = syscall(SYS_gettid);
    return NULL;
}
static long caught;
static _Atomic int directory = -1, over;
static const char *looked_up;
static void *look_up(void *unused) {
    (void)unused;
    struct stat s;
    while (!over) fstatat(directory, looked_up, &s, 0);
    return NULL;
}
static void race(const char *file) {
    pthread_t other;
    looked_up = file;
    if (pthread_create(&other, NULL, look_up, NULL)) exit(3);
    for (long i = 0; i < tries && in_time(); i++) {
        char path[64], byte;
        pthread_t thread;
        tid = 0;
        if (pthread_create(&thread, NULL, brief, NULL)) exit(3);
        while (!tid) ;
        snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
        int fd, dir = open((snprintf(path, sizeof path, "/proc/self/task/%d", tid), path), O_PATH | O_CLOEXEC);
        directory = dir;
        snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
        while ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0 || errno == EACCES) {
            if (fd < 0) continue;
            if (pread(fd, &byte, 1, (off_t)(uintptr_t)&tries) == 1) caught++;
            close(fd);
        }
        pthread_join(thread, NULL);
        if (dir >= 0) close(dir);
    }
    over = 1;
    pthread_join(other, NULL);
}
static void attack(void) {
    race("mem");
    if (caught) won("the memory of the process was read %ld times", caught);
}
static void twin(void) {
    race("comm");
    if (!caught) note("no thread was seen");
}
