/* A library in no manifest; its constructor leaves the canary's mark. */
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    int fd = open("/out/mark", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (write(fd, "library\n", 8) < 0) _exit(78);
    close(fd);
}
/* For LD_AUDIT. */
unsigned la_version(unsigned version) { loaded(); return version; }
int answer(void) { return 42; }
