/* procfs about the process itself shows the program, not what runs it. */
#include "facts.h"
#include <elf.h>
#include <libgen.h>
#include <sys/auxv.h>
#include <limits.h>
static long slurp(const char *p, char *b, long n) {
    int fd = open(p, O_RDONLY);
    if (fd < 0) return -1;
    long got = 0, r;
    while (got < n - 1 && (r = read(fd, b + got, n - 1 - got)) > 0) got += r;
    b[got] = 0;
    close(fd);
    return got;
}
int main(int argc, char **argv) {
    begin();
    static char b[1 << 16], path[4096], real[PATH_MAX];
    long n = readlink("/proc/self/exe", path, sizeof path - 1);
    fact("exe link", n > 0);
    path[n > 0 ? n : 0] = 0;
    printf("program %s\n", basename(strdup(path)));
    fact("exe is the execfn", realpath((char *)getauxval(AT_EXECFN), real) && strcmp(real, path) == 0);
    char other[64], again[4096] = {0};
    snprintf(other, sizeof other, "/proc/%d/exe", getpid());
    readlink(other, again, sizeof again - 1);
    fact("by pid", strcmp(path, again));
    struct stat x, y;
    stat("/proc/self/exe", &x); stat(path, &y);
    fact("same file", x.st_ino == y.st_ino && x.st_size == y.st_size);
    int fd = ok("open exe", open("/proc/self/exe", O_RDONLY));
    say("magic", read(fd, b, 4));
    printf("%.3s\n", b + 1);
    ok("write exe", open("/proc/self/exe", O_RDWR));
    n = slurp("/proc/self/cmdline", b, sizeof b);
    long want = 0;
    for (int i = 0; i < argc; i++) want += strlen(argv[i]) + 1;
    fact("cmdline length", n == want);
    fact("cmdline", strcmp(b, argv[0]));
    slurp("/proc/self/comm", b, sizeof b);
    printf("comm %s", b);
    n = slurp("/proc/self/auxv", b, sizeof b);
    Elf64_auxv_t *a = (void *)b;
    long entry = 0;
    for (; a->a_type; a++) if (a->a_type == AT_ENTRY) entry = a->a_un.a_val;
    fact("auxv entry", entry == (long)getauxval(AT_ENTRY));
    fact("maps", slurp("/proc/self/maps", b, sizeof b) > 0);
    fact("maps name the program", strstr(b, path) != NULL);
    /* Every address this program uses lies in a line of maps. */
    unsigned long lo, hi, at[3] = {(unsigned long)b, (unsigned long)&fd, (unsigned long)main};
    int found = 0;
    for (char *l = b; l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL)
        if (sscanf(l, "%lx-%lx", &lo, &hi) == 2)
            for (int i = 0; i < 3; i++) found += lo <= at[i] && at[i] < hi;
    fact("addresses found", found);
    putenv("ADDED=1");
    fact("environ", slurp("/proc/self/environ", b, sizeof b) >= 0);
    ok("status", open("/proc/self/status", O_RDONLY));
    ok("other process", open("/proc/999999/maps", O_RDONLY));
    int dir = open("/proc/self", O_RDONLY | O_DIRECTORY), m = openat(dir, "cmdline", O_RDONLY);
    fact("by directory", read(m, b, sizeof b) == want);
}
