// The directories that a program is given at its start, by number and name, and whether the files named by its arguments are there.
#include <stdio.h>
#include <wasi/api.h>

int main(int argc, char **argv) {
    __wasi_prestat_t given;
    for (int fd = 3; __wasi_fd_prestat_get(fd, &given) == 0; fd++) {
        char name[given.u.dir.pr_name_len + 1];
        if (__wasi_fd_prestat_dir_name(fd, (uint8_t *)name, given.u.dir.pr_name_len)) return 1;
        name[given.u.dir.pr_name_len] = 0;
        printf("%d %s\n", fd, name);
    }
    for (int i = 1; i < argc; i++) printf("argument %s: %s\n", argv[i], fopen(argv[i], "r") ? "is there" : "is not there");
}
