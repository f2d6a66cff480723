/* Standard input is a file of the host, handed over to be read. Its link in /proc opens it once more, and guest root is often its owner. The suite compares the host's file afterwards. */
#include "attack.h"
static void attack(void) {
    /* What is written is a file of the host, too: with this mode and what the guest writes it were a program of its owner's. */
    for (int fd = 0; fd < 3; fd++) { fchmod(fd, 04777); fchown(fd, 1, 1); }
    struct stat stream;
    MUST(fstat(0, &stream));
    if (!S_ISREG(stream.st_mode)) { note("the stream is no file here"); return; }
    const char *names[] = {"/proc/self/fd/0", "/dev/stdin", "/dev/fd/0", "/proc/thread-self/fd/0", "/proc/1/fd/0"};
    for (int i = 0; i < 5; i++) {
        for (int flags = O_WRONLY; flags <= O_RDWR; flags++) {
            const int more[] = {0, O_APPEND, O_TRUNC};
            for (int j = 0; j < 3; j++) {
                int fd = open(names[i], flags | more[j] | O_CLOEXEC);
                if (fd < 0) continue;
                if (write(fd, "overwritten", 11) > 0) won("%s: a stream that is read was written", names[i]);
                close(fd);
            }
        }
        if (truncate(names[i], 3) == 0) won("%s: a stream that is read was cut off", names[i]);
        if (chmod(names[i], 0777) == 0) won("%s: its mode was changed", names[i]);
        if (chown(names[i], 1, 1) == 0) won("%s: its owner was changed", names[i]);
        int named = open(names[i], O_PATH | O_CLOEXEC);
        unlink("/tmp/hard");
        if (named >= 0 && linkat(named, "", AT_FDCWD, "/tmp/hard", AT_EMPTY_PATH) == 0) won("%s was linked", names[i]);
    }
    if (write(0, "x", 1) > 0 || ftruncate(0, 0) == 0) won("the stream itself can be written");
}
static void twin(void) {
    char text[4];
    if (read(0, text, 4) != 4) exit(4);
    /* Both are files of the host: what may be read can be opened to be read, and what may be written to be written. */
    int in = open("/dev/stdin", O_RDONLY | O_CLOEXEC), out = open("/dev/stdout", O_WRONLY | O_CLOEXEC);
    if (in < 0 || out < 0) { note("in %d out %d: %s", in, out, strerror(errno)); exit(4); }
    if (write(out, "note written\n", 13) != 13) exit(4);
}
