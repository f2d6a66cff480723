/* What every program of this folder prints with: results that are equal natively and under vkernel. Numbers that differ from run to run
 * (descriptors beyond the first, pids, times, addresses) are printed as "ok". A program works in a fresh directory of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* "what = 3" or "what = ENOENT" */
static inline long say(const char *what, long r) {
    if (r == -1) printf("%s = %s\n", what, strerrorname_np(errno));
    else printf("%s = %ld\n", what, r);
    return r;
}

/* "what ok" or "what = ENOENT" */
static inline long ok(const char *what, long r) {
    if (r == -1) printf("%s = %s\n", what, strerrorname_np(errno));
    else printf("%s ok\n", what);
    return r;
}

static inline void fact(const char *what, long v) { printf("%s: %ld\n", what, v); }

static char facts_dir[] = "/tmp/facts-XXXXXX";
static inline void leave(void) {
    if (chdir("/") == 0) {
        char command[64];
        snprintf(command, sizeof command, "%s", facts_dir);
        /* the programs remove their files themselves */
        rmdir(command);
    }
}

/* Makes a fresh directory and goes there. */
static inline void begin(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mkdtemp(facts_dir) || chdir(facts_dir)) { perror("mkdtemp"); exit(99); }
    atexit(leave);
}

/* How a child that does this ends. */
static inline void in_child(const char *what, void (*run)(void)) {
    int status;
    pid_t pid = fork();
    if (!pid) { run(); _exit(9); }
    waitpid(pid, &status, 0);
    printf("%s: signal %d code %d\n", what, WIFSIGNALED(status) ? WTERMSIG(status) : 0, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
}

/* Not an address of anything: natively unmapped, beyond the window under vkernel. */
#define WILD ((void *)0x700000000000)
