/* RLIMIT_FSIZE limits what a process writes, not what it reads of itself.
 * A runtime that writes the text into a file first was ended by SIGXFSZ. */
#include "facts.h"
#include <sys/resource.h>
int main(void) {
    begin();
    int p[2], status;
    pipe(p);
    if (fork() == 0) {
        struct rlimit none = {0, 0};
        char b[4096], result[64];
        setrlimit(RLIMIT_FSIZE, &none);
        int fd = open("/proc/self/maps", O_RDONLY), e = errno;
        long n = 0, lines = 0, r;
        while ((r = read(fd, b, sizeof b)) > 0)
            for (n += r; r-- > 0;) lines += b[r] == '\n';
        int end = sprintf(result, "open %d bytes %d lines %d", fd < 0 ? e : 0, n > 100, lines > 3);
        write(p[1], result, end);
        _exit(0);
    }
    wait(&status);
    char b[64] = {0};
    read(p[0], b, sizeof b - 1);
    printf("status %x: %s\n", status, b);
}
