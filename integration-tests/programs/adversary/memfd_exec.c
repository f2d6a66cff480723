/* Programs without a name: memfd (also sealed), O_TMPFILE, unlinked, /dev/shm; by fexecve and through /proc/self/fd (CVE-2019-5736's last step, and what fileless malware does). */
#include "attack.h"
static void each(const char *content, void (*one)(const char *what, int error)) {
    char path[64], *argv[] = {"x", NULL};
    int fds[5];
    fds[0] = copied_memfd(content, MFD_CLOEXEC);
    fds[1] = copied_memfd(content, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    MUST(fcntl(fds[1], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
    copy(content, "/dev/shm/x", 0755);
    fds[2] = MUST(open("/dev/shm/x", O_RDONLY | O_CLOEXEC));
    copy(content, "/tmp/x", 0755);
    fds[3] = MUST(open("/tmp/x", O_RDONLY | O_CLOEXEC));
    MUST(unlink("/tmp/x"));
    fds[4] = MUST(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0755));
    int from = MUST(open(content, O_RDONLY | O_CLOEXEC));
    char block[4096];
    for (ssize_t n; (n = read(from, block, sizeof block)) > 0;) if (write(fds[4], block, n) != n) exit(3);
    int again = MUST(open((snprintf(path, sizeof path, "/proc/self/fd/%d", fds[4]), path), O_RDONLY | O_CLOEXEC));
    close(fds[4]);
    fds[4] = again;
    const char *names[] = {"memfd", "sealed memfd", "shm", "unlinked", "tmpfile"};
    for (int i = 0; i < 5; i++) {
        /* In a container's pid namespace memory has no execute permission (vm.memfd_noexec): nobody is asked. */
        const int asks = i < 2 ? SILENT : ASKS;
        one(names[i], execute_at(fds[i], "", argv, environ, AT_EMPTY_PATH, asks));
        snprintf(path, sizeof path, "/proc/self/fd/%d", fds[i]);
        one(names[i], execute(path, asks));
        snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fds[i]);
        one(names[i], execute(path, asks));
    }
}
static void hostile(const char *what, int error) { if (error == 0) won("%s ran: status %#x", what, status_of_last); }
static void harmless(const char *what, int error) { if (strstr(what, "memfd") ? error && error != EACCES : error || status_of_last) { note("%s: %s, status %#x", what, strerror(error), status_of_last); exit(4); } }
static void attack(void) { each(CANARY, hostile); }
static void twin(void) { each(GOOD, harmless); }
