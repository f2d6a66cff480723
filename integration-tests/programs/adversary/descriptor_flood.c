/* No descriptor is free: what the runtime needs for a moment it does not get, and must refuse; nothing is to be taken for anything else. */
#include "attack.h"
static void fill(void) { while (open("/dev/null", O_RDONLY) >= 0 || dup(0) >= 0) ; }
static void attack(void) {
    fill();
    pid_t pid = MUST(fork());
    if (pid == 0) {
        char *argv[] = {"x", NULL};
        execve(CANARY, argv, environ);
        if (open("/proc/self/mem", O_RDONLY) >= 0) won("memory was opened");
        /* One number is free: the runtime's and the guest's openings take turns at it. */
        char byte;
        for (int n = 100; n < 110; n++) {
            close(n);
            int fd = open("/proc/self/mem", O_RDONLY);
            if (fd >= 0 && pread(fd, &byte, 1, (off_t)(uintptr_t)argv) == 1) won("memory was read");
            fd = open("/proc/self/maps", O_RDONLY);
            char text[4096] = "";
            if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && strstr(text, "vkernel")) won("the runtime's mappings were read");
            if (fd < 0) fd = open("/dev/null", O_RDONLY);
            execve(CANARY, argv, environ);
        }
        for (int n = 3; n < 200; n++) close(n);
        execve(CANARY, argv, environ);
        shared->asked++;
        _exit(0);
    }
    int status;
    MUST(waitpid(pid, &status, 0));
    if (status) won("it ended with %#x", status);
    printf("asked-uncounted\n");
}
static void twin(void) {
    fill();
    for (int n = 3; n < 200; n++) close(n);
    program(GOOD);
}
