/* Libraries that nobody listed, by every way ld.so offers: LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, /etc/ld.so.preload, dlopen; from a file, a memfd, and a copy of a listed one with a byte changed. */
#include "attack.h"
#include <dlfcn.h>
static void with(const char *variable) {
    char *envp[] = {(char *)variable, NULL}, *argv[] = {GOOD, NULL};
    execute_at(AT_FDCWD, GOOD, argv, envp, 0, ASKS);
}
static void attack(void) {
    with("LD_PRELOAD=" CANARY_LIBRARY); with("LD_AUDIT=" CANARY_LIBRARY);
    mkdir("/tmp/lib", 0755); copy(CANARY_LIBRARY, "/tmp/lib/libc.so.6", 0755);
    with("LD_LIBRARY_PATH=/tmp/lib");
    int fd = MUST(open("/etc/ld.so.preload", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (write(fd, CANARY_LIBRARY "\n", sizeof CANARY_LIBRARY) < 0) exit(3);
    close(fd);
    with("A=b");
    MUST(unlink("/etc/ld.so.preload"));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", copied_memfd(CANARY_LIBRARY, 0));
    if (dlopen(path, RTLD_NOW)) won("a library in memory was loaded");
    if (dlopen(CANARY_LIBRARY, RTLD_NOW)) won("an unlisted library was loaded");
    copy("/usr/lib/x86_64-linux-gnu/libm.so.6", "/tmp/lib/libm.so.6", 0644);
    int changed = MUST(open("/tmp/lib/libm.so.6", O_RDWR | O_CLOEXEC));
    pwrite(changed, "\xcc", 1, 0x20000);
    close(changed);
    if (dlopen("/tmp/lib/libm.so.6", RTLD_NOW)) won("a changed library was loaded");
}
static void twin(void) {
    with("LD_PRELOAD=libm.so.6");
    if (status_of_last) exit(4);
    void *m = dlopen("libm.so.6", RTLD_NOW);
    double (*root)(double) = m ? (double (*)(double))dlsym(m, "sqrt") : NULL;
    if (!root || root(49) != 7) exit(4);
}
