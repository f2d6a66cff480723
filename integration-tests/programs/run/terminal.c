#define _GNU_SOURCE
/* Says what its terminal looks like and which signals come from it; ends when told to on standard input ("end"). */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
static volatile sig_atomic_t got[65];
static void note(int s) { got[s] = 1; }
int main(void) {
    int watched[] = {SIGWINCH, SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGUSR1, SIGCONT};
    for (int i = 0; i < 7; i++) {
        struct sigaction a = {.sa_handler = note};
        sigaction(watched[i], &a, NULL);
    }
    /* Let in only while it waits: a signal between two calls would be noticed too late. */
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("terminal %d%d%d foreground %d\n", isatty(0), isatty(1), isatty(2), tcgetpgrp(0) == getpgrp());
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        int ready = ppoll(&input, 1, NULL, &none);
        for (int s = 1; s < 65; s++) {
            if (!got[s]) continue;
            got[s] = 0;
            struct winsize w = {0};
            ioctl(0, TIOCGWINSZ, &w);
            printf("signal %s", sigabbrev_np(s));
            if (s == SIGWINCH) printf(" %dx%d", w.ws_row, w.ws_col);
            printf("\n");
        }
        if (ready <= 0) continue;
        char line[256];
        ssize_t n = read(0, line, sizeof line - 1);
        if (n <= 0) return 9;
        line[n] = 0;
        if (!strncmp(line, "end", 3)) return 21;
        printf("line %s", line);
    }
}
