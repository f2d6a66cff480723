// posix_spawn of a missing file reports ENOENT to the parent; of an existing one it works; both with the child sharing memory until exec.
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

int main(void) {
    pid_t pid;
    char *missing[] = {"nonexistent", NULL}, *echo[] = {"echo", "spawned", NULL};
    int e = posix_spawn(&pid, "/nonexistent", NULL, NULL, missing, environ);
    printf("missing: %s\n", strerror(e));
    e = posix_spawnp(&pid, "no-such-program", NULL, NULL, missing, environ);
    printf("missing in PATH: %s\n", strerror(e));
    fflush(stdout);
    e = posix_spawnp(&pid, "echo", NULL, NULL, echo, environ);
    int status;
    waitpid(pid, &status, 0);
    printf("echo: %d, status %d\n", e, WEXITSTATUS(status));
}
