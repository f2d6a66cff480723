/* A container that goes on: for attacks from outside. Executes what it is told to by the suite, a path a line in /out/say, and answers in its output. */
#include "attack.h"
static void serve(void) {
    printf("ready\n");
    for (struct stat s; stat("/out/done", &s) != 0;) {
        char path[256] = "";
        int fd = open("/out/say", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, path, sizeof path - 1);
        if (fd >= 0) close(fd);
        if (n > 0 && path[n - 1] == '\n') {
            path[n - 1] = 0;
            unlink("/out/say");
            int error = execute(path, ASKS);
            printf("answer %s %d %#x\n", path, error, status_of_last);
        }
        usleep(2000);
    }
}
static void attack(void) { serve(); }
static void twin(void) { serve(); }
