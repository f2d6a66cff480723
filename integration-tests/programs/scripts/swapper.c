/* Executes an interpreter and puts something else in the place of its script when that has been decided about, before it is opened: swapper START NAME OTHER PROGRAM [ARG...]. Says "swapped" when it has.
 * START: `locale`, for a program that reads its locale (what it opens is a named pipe, where it waits until the swap is done), or `exec`, for one that does not, which is a race.
 * OTHER: what takes NAME's place; `=FILE`, a file whose text is written over NAME's; `-`, nothing; `none`: there is no swap. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#define LOCALES "/tmp/s/locales"
#define PIPE LOCALES "/xx/LC_IDENTIFICATION"
static void fail(const char *what) { perror(what); exit(9); }
static void swap(const char *name, const char *other) {
    if (strcmp(other, "none") == 0) return;
    if (strcmp(other, "-") == 0) { if (unlink(name)) fail(name); }
    else if (*other == '=') {
        static char text[65536];
        int in = open(other + 1, O_RDONLY), out = open(name, O_WRONLY | O_TRUNC);
        ssize_t n = read(in, text, sizeof text);
        if (n <= 0 || write(out, text, n) != n) fail(name);
        close(in); close(out);
    } else if (renameat2(AT_FDCWD, other, AT_FDCWD, name, RENAME_EXCHANGE)) fail(other);
    if (write(1, "swapped\n", 8) != 8) exit(9);
}
int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int by_locale = strcmp(argv[1], "locale") == 0, ends[2], status = 0;
    if (by_locale) {
        mkdir(LOCALES, 0755); mkdir(LOCALES "/xx", 0755);
        if (mkfifo(PIPE, 0644) && errno != EEXIST) fail(PIPE);
        /* Interpreters that ask for this category only. */
        if (link(PIPE, LOCALES "/xx/LC_CTYPE") && errno != EEXIST) fail("LC_CTYPE");
    }
    if (pipe2(ends, O_CLOEXEC)) fail("pipe");
    alarm(60);
    pid_t child = fork();
    if (child == 0) {
        if (by_locale) { setenv("LOCPATH", LOCALES, 1); setenv("LC_ALL", "xx", 1); }
        execvp(argv[4], argv + 4);
        _exit(126);
    }
    close(ends[1]);
    int ended = 0, writer = -1;
    char byte;
    /* The end of this pipe is the program's beginning: its script has been decided about. */
    if (read(ends[0], &byte, 1) != 0) fail("read");
    swap(argv[2], argv[3]);
    /* A writer lets it go on; there can be one as soon as somebody waits for it. */
    while (by_locale && (writer = open(PIPE, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0 && errno == ENXIO && !ended) {
        ended = waitpid(child, &status, WNOHANG) == child;
        usleep(200);
    }
    if (!ended && waitpid(child, &status, 0) != child) fail("wait");
    if (writer >= 0) close(writer);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}
