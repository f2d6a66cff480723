/* A program that is not root reads the procfs files about itself. Story: a worker is not dumpable, its procfs files belong to root, and a
   guest with another uid got EACCES for auxv and environ. */
#include "facts.h"
#include <elf.h>
#include <sys/auxv.h>
static char b[1 << 16];
static long slurp(int fd) {
    long got = 0, r;
    if (fd < 0) return -errno;
    while (got < (long)sizeof b - 1 && (r = read(fd, b + got, sizeof b - 1 - got)) > 0) got += r;
    b[got] = 0;
    close(fd);
    return got;
}
int main(int argc, char **argv) {
    begin();
    if (argc == 1) {
        /* exec makes the process dumpable again; the environment is made known. */
        char *args[] = {argv[0], "nobody", NULL}, *env[] = {"A=1", "LONGER=two words", NULL};
        fact("setgid", setgid(65534));
        fact("setuid", setuid(65534));
        fflush(stdout);
        execve("/proc/self/exe", args, env);
        return 1;
    }
    fact("uid", getuid());
    long n = slurp(open("/proc/self/environ", O_RDONLY));
    fact("environ", n);
    fact("second variable", n > 4 ? strcmp(b + 4, "LONGER=two words") : -1);
    n = slurp(open("/proc/self/auxv", O_RDONLY));
    fact("auxv is whole", n > 0 && n % sizeof(Elf64_auxv_t) == 0);
    for (Elf64_auxv_t *a = (void *)b; n > 0 && (char *)a < b + n; a++)
        if (a->a_type == AT_ENTRY) fact("entry", a->a_un.a_val == getauxval(AT_ENTRY));
        else if (a->a_type == AT_UID) fact("AT_UID", a->a_un.a_val);
    n = slurp(open("/proc/self/maps", O_RDONLY));
    fact("maps", n > 0);
    fact("maps name the program", strstr(b, "/proc_self_as_nobody\n") != NULL);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/environ", getpid(), getpid());
    fact("by pid and task", slurp(open(path, O_RDONLY)));
    int dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
    fact("below a descriptor", slurp(openat(dir, "environ", O_RDONLY | O_CLOEXEC)));
    /* The guest's procfs is read-only, so the errno may differ. */
    fact("writing is refused", slurp(open("/proc/self/environ", O_WRONLY)) < 0);
    fact("somebody else's file", slurp(open("/etc/shadow", O_RDONLY)));
    return 0;
}
