/* `ld.so PROGRAM` executes what nobody executed: the kernel sees only ld.so. Also with libraries that nobody listed, and an audit library. */
#include "attack.h"
#define LOADER "/lib64/ld-linux-x86-64.so.2"
static int loader(char *a, char *b, char *c) {
    char *argv[] = {"ld.so", a, b, c, NULL};
    return execute_at(AT_FDCWD, LOADER, argv, environ, 0, ASKS);
}
static void not(const char *what, int error) { if (error == 0 && status_of_last == 0) won("%s: it ran", what); }
static void attack(void) {
    not("program", loader(CANARY, NULL, NULL));
    not("static-pie library as program", loader(CANARY_LIBRARY, NULL, NULL));
    int fd = copied_memfd(CANARY, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    not("memfd", loader(path, NULL, NULL));
    loader("--preload", CANARY_LIBRARY, GOOD);
    loader("--audit", CANARY_LIBRARY, GOOD);
}
/* ld.so does not load a listed program either: programs are entries, not libraries. What it does by itself it does. */
static void twin(void) {
    int out = dup(1);
    MUST(dup2(MUST(open("/dev/null", O_WRONLY)), 1));
    int error = loader("--version", NULL, NULL);
    MUST(dup2(out, 1));
    if (error || status_of_last) exit(4);
}
