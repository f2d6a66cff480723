/* Threads share descriptors, also those that the runtime opens for a moment during an exec. Another thread puts its own files under every such number, while the first executes a file that may not be executed by anybody:
 * the check of the mode must be a check of what is executed. */
#include "attack.h"
static int files[2];
static _Atomic int over;
static void *swap(void *unused) {
    (void)unused;
    while (!over) for (int n = 3; n < 9; n++) for (int i = 0; i < 2; i++) dup3(files[i], n, O_CLOEXEC);
    return NULL;
}
static void race(const char *path, const char *other) {
    long ran = 0, not = 0, crashed = 0;
    for (long i = 0; i < tries / 2 && in_time(); i++) {
        pid_t pid = MUST(fork());
        if (pid == 0) {
            pthread_t thread;
            files[0] = fcntl(open(path, O_PATH | O_CLOEXEC), F_DUPFD_CLOEXEC, 20);
            files[1] = fcntl(open(other, O_PATH | O_CLOEXEC), F_DUPFD_CLOEXEC, 20);
            if (pthread_create(&thread, NULL, swap, NULL)) _exit(9);
            char *argv[] = {(char *)path, "ran", NULL};
            for (int j = 0; j < 50; j++) execve(path, argv, environ);
            _exit(100);
        }
        int status;
        MUST(waitpid(pid, &status, 0));
        if (WIFEXITED(status) && WEXITSTATUS(status) == 100) not++;
        else if (WIFEXITED(status) && WEXITSTATUS(status) <= 1) ran++;
        else crashed++;
    }
    note("%ld ran, %ld refused, %ld crashed", ran, not, crashed);
    printf("asked-uncounted\n");
    if (path != other && ran) won("a file without execute permission was executed %ld times of %ld", ran, tries);
    if (path == other && !ran) exit(4);
    if (crashed) won("%ld crashed", crashed);
}
static void attack(void) {
    copy(GOOD, "/tmp/plain", 0644); copy(CANARY, "/tmp/canary", 0755);
    race("/tmp/plain", GOOD);
    race("/tmp/plain", "/tmp/canary");
}
static void twin(void) { race(GOOD, GOOD); }
