/* What every attack shares: how it tells what it did, how it executes things, how many times it tries.
 *
 * A program has two functions, `attack` and `twin`: the twin is the same with the one hostile thing replaced by an allowed one, so that a refused attack is not just a broken program. Lines for the suite:
 *   won WHAT      the attack got what it must not get
 *   fine          the twin got what it may get
 *   asked N       execs that the supervisor decided, each of which the audit log must have
 *   told N        calls that are refused by design, each of which the audit log must have, or count as dropped
 *   end           the program came to its end
 */
#pragma once
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOME "/usr/local/lib/adversary/"
/* Programs that no manifest lists. Whoever executes the canary natively finds its mark in /out. */
#define CANARY HOME "unlisted/canary"
#define CANARY_LIBRARY HOME "unlisted/canary.so"
/* Listed ones. */
#define GOOD "/usr/bin/true"
#define SHELL "/usr/bin/dash"
/* A file of the host that no container is given, and one that all are given read-only. */
#define HOSTS "adversary-secret-of-the-host"
#define PRECIOUS "/precious/file"

extern char **environ;

static struct { _Atomic long asked, told, stop, tried; } *shared;
/* How often a race is tried. */
static long tries = 1000;
static void attack(void);
static void twin(void);

static void line(const char *kind, const char *format, va_list list) {
    char text[512];
    int n = snprintf(text, sizeof text, "%s ", kind);
    n += vsnprintf(text + n, sizeof text - n - 2, format, list);
    if (n > (int)sizeof text - 2) n = sizeof text - 2;
    text[n++] = '\n';
    if (write(1, text, n) != n) _exit(9);
}
__attribute__((format(printf, 1, 2))) static void won(const char *format, ...) { va_list l; va_start(l, format); line("won", format, l); va_end(l); }
__attribute__((format(printf, 1, 2))) static void note(const char *format, ...) { va_list l; va_start(l, format); line("note", format, l); va_end(l); }

/* The set-up is wrong: neither attack nor twin means anything then. */
#define MUST(what) ({ long must_ = (long)(what); if (must_ == -1) { dprintf(2, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, strerror(errno)); exit(3); } must_; })

/* Attack: nothing may come of it. */
static void refused(const char *what, long result) { if (result != -1) won("%s: %ld", what, result); }
/* The same for a call that is refused by design and audited. */
static void forbidden(const char *what, long result) {
    shared->told++;
    refused(what, result);
}

static void copy(const char *from, const char *to, int mode) {
    static char block[65536];
    unlink(to);
    int in = MUST(open(from, O_RDONLY | O_CLOEXEC)), out = MUST(open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
    for (ssize_t n; (n = MUST(read(in, block, sizeof block))) > 0;) if (write(out, block, n) != n) exit(3);
    MUST(fchmod(out, mode));
    close(in); close(out);
}

static int copied_memfd(const char *from, int flags) {
    static char block[65536];
    int in = MUST(open(from, O_RDONLY | O_CLOEXEC)), out = MUST(memfd_create("copy", flags));
    for (ssize_t n; (n = MUST(read(in, block, sizeof block))) > 0;) if (write(out, block, n) != n) exit(3);
    close(in);
    return out;
}

enum { SILENT, ASKS };
/* Exit status of what `execute` last executed. */
static int status_of_last;

/* Of a child that writes the errno to the pipe unless it became the program: the errno or 0, once it has ended. */
static int outcome(pid_t pid, int ends[2]) {
    int error = 0;
    close(ends[1]);
    ssize_t n = read(ends[0], &error, sizeof error);
    close(ends[0]);
    MUST(waitpid(pid, &status_of_last, 0));
    return n == sizeof error ? error : 0;
}

/* execveat in a child: 0 if it became the program (whose end is waited for), or the errno. ASKS: every outcome but a missing file is a decision of the supervisor's. */
static int execute_at(int dir, const char *path, char *const argv[], char *const envp[], int flags, int asks) {
    int ends[2], error = 0;
    MUST(pipe2(ends, O_CLOEXEC));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        syscall(SYS_execveat, dir, path, argv, envp, flags);
        error = errno;
        if (write(ends[1], &error, sizeof error) < 0) _exit(9);
        _exit(0);
    }
    error = outcome(pid, ends);
    if (asks && error != ENOENT && error != ENOTDIR) shared->asked++;
    return error;
}
/* The same in one child until it becomes the program, at most `most` times: what is refused costs little. */
static int execute_often(const char *path, char *const argv[], int most, int asks) {
    int ends[2], error = 0;
    MUST(pipe2(ends, O_CLOEXEC));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        for (int i = 0; i < most; i++) {
            shared->tried++;
            if (asks) shared->asked++;
            execve(path, argv, environ);
            error = errno;
            if (asks && (error == ENOENT || error == ENOTDIR)) shared->asked--;
        }
        if (write(ends[1], &error, sizeof error) < 0) _exit(9);
        _exit(0);
    }
    return outcome(pid, ends);
}
/* Races are tried as often as asked for, but no longer than this. */
static int in_time(void) {
    static time_t begun;
    if (!begun) begun = time(NULL);
    return time(NULL) - begun < 30;
}
static int execute(const char *path, int asks) {
    char *argv[] = {(char *)path, NULL};
    return execute_at(AT_FDCWD, path, argv, environ, 0, asks);
}
/* Attack: whatever this names does not run. */
static void no_program(const char *path, int asks) { if (execute(path, asks) == 0) won("%s ran and ended with %#x", path, status_of_last); }
/* Twin: it runs and ends well. */
static void program(const char *path) {
    int error = execute(path, ASKS);
    if (error || status_of_last) { note("%s: %s, status %#x", path, strerror(error), status_of_last); exit(4); }
}

/* A process that does `work` over and over until `rest` is called. */
static pid_t busy(void (*work)(void)) {
    shared->stop = 0;
    pid_t pid = MUST(fork());
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!shared->stop) work();
    _exit(0);
}
static void rest(pid_t pid) {
    int status;
    shared->stop = 1;
    MUST(waitpid(pid, &status, 0));
}

int main(int argc, char **argv) {
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || argc < 2) return 2;
    if (argc > 2) tries = atol(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(argv[1], "attack") == 0) attack();
    else { twin(); printf("fine\n"); }
    printf("asked %ld\ntold %ld\nend\n", shared->asked, shared->told);
    return 0;
}
