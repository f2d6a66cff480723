// The C library's files and directories, below the root directory: what it makes of WASI's functions.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAY(call) do { errno = 0; long r = (long)(call); printf("%s = %ld (%d)\n", #call, r, errno); } while (0)

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void list(const char *path) {
    DIR *d = opendir(path);
    if (!d) { printf("%s: errno %d\n", path, errno); return; }
    char *names[64];
    int n = 0;
    for (struct dirent *e; (e = readdir(d)) && n < 64;)
        names[n++] = strdup(e->d_name);
    closedir(d);
    qsort(names, n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) printf("%s%s", i ? " " : "", names[i]);
    printf("\n");
}

int main(void) {
    SAY(mkdir("/work", 0777));
    SAY(mkdir("/work", 0777));
    SAY(mkdir("/work/a", 0777));
    int fd = open("/work/a/file", O_RDWR | O_CREAT | O_EXCL, 0666);
    printf("open %s\n", fd >= 0 ? "yes" : "no");
    SAY(write(fd, "0123456789", 10));
    SAY(lseek(fd, 3, SEEK_SET));
    char b[16] = {0};
    SAY(read(fd, b, 4));
    printf("%s\n", b);
    SAY(pwrite(fd, "xy", 2, 0));
    SAY(pread(fd, b, 5, 0));
    printf("%.5s\n", b);
    SAY(ftruncate(fd, 4));
    SAY(lseek(fd, 0, SEEK_END));
    SAY(lseek(fd, -9, SEEK_CUR));
    SAY(fsync(fd));
    struct stat s;
    SAY(fstat(fd, &s));
    printf("size %lld regular %d links %d\n", (long long)s.st_size, S_ISREG(s.st_mode), (int)s.st_nlink);
    struct timespec t[2] = {{1000000000, 5}, {1100000000, 7}};
    SAY(futimens(fd, t));
    SAY(fstat(fd, &s));
    printf("times %lld.%ld %lld.%ld\n", (long long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    SAY(close(fd));
    SAY(read(fd, b, 1));
    SAY(open("/work/a/file", O_RDWR | O_CREAT | O_EXCL, 0666));
    SAY(open("/work/none", O_RDONLY));
    SAY(open("/work/a/file/x", O_RDONLY));
    SAY(open("/work/a", O_WRONLY));
    SAY(link("/work/a/file", "/work/a/second"));
    SAY(symlink("file", "/work/a/link"));
    SAY(readlink("/work/a/link", b, sizeof b));
    SAY(lstat("/work/a/link", &s));
    printf("link %d\n", S_ISLNK(s.st_mode));
    SAY(stat("/work/a/link", &s));
    printf("size %lld links %d\n", (long long)s.st_size, (int)s.st_nlink);
    list("/work/a");
    SAY(rename("/work/a/second", "/work/moved"));
    SAY(rename("/work/none", "/work/x"));
    SAY(rmdir("/work/a"));
    SAY(unlink("/work/a"));
    SAY(rmdir("/work/moved"));
    SAY(unlink("/work/a/link"));
    SAY(unlink("/work/a/file"));
    SAY(unlink("/work/moved"));
    SAY(rmdir("/work/a"));
    list("/work");
    list("/nowhere");
    SAY(rmdir("/work"));
    FILE *f = fopen("/large", "w");
    for (int i = 0; i < 20000; i++) fprintf(f, "line %d\n", i);
    fclose(f);
    SAY(stat("/large", &s));
    printf("%lld bytes\n", (long long)s.st_size);
    unsigned long sum = 0;
    f = fopen("/large", "r");
    for (int c; (c = getc(f)) != EOF;) sum = sum * 31 + c;
    fclose(f);
    printf("sum %lx\n", sum);
    SAY(unlink("/large"));
    return 0;
}
