/* A signal during a waiting call: restarted with SA_RESTART, EINTR without; partial transfers are kept. */
#include "facts.h"
#include <sys/file.h>
#include <sys/time.h>
static volatile int caught;
static int feed = -1;
static void on(int s) { (void)s; caught++; if (feed >= 0) write(feed, "late", 4); }
static void in20ms(void) { struct itimerval i = {{0, 0}, {0, 20000}}; setitimer(ITIMER_REAL, &i, NULL); }
int main(void) {
    begin();
    int p[2], s[2];
    char b[16], big[200000] = {0};
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    struct sigaction a = {.sa_handler = on};
    sigaction(SIGALRM, &a, NULL);
    in20ms();
    say("read", read(p[0], b, sizeof b));
    in20ms();
    say("recv", recv(s[0], b, sizeof b, 0));
    in20ms();
    say("wait", wait4(-1, NULL, 0, NULL) == -1 && errno == ECHILD ? 0 : 1);
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    feed = p[1];
    in20ms();
    say("read restarted", read(p[0], b, sizeof b));
    printf("%.4s\n", b);
    feed = s[1];
    in20ms();
    say("recv restarted", recv(s[0], b, sizeof b, 0));
    feed = -1;
    int f = open("f", O_RDWR | O_CREAT, 0600);
    fact("caught", caught);
    /* A write that was half done says how much. */
    sigaction(SIGALRM, &a, NULL);
    in20ms();
    long n = write(p[1], big, sizeof big);
    fact("partial", n > 0 && n < (long)sizeof big);
    close(f);
    unlink("f");
}
