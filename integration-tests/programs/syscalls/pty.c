/* Terminals: termios, window size, pty numbers, requests a file does not know. */
#include "facts.h"
#include <termios.h>
int main(void) {
    begin();
    int m = ok("openpt", posix_openpt(O_RDWR | O_NOCTTY));
    say("unlockpt", unlockpt(m));
    unsigned n = 0;
    say("gptn", ioctl(m, TIOCGPTN, &n));
    char name[64];
    snprintf(name, sizeof name, "/dev/pts/%u", n);
    fact("ptsname", strcmp(name, ptsname(m)));
    int s = ok("slave", open(name, O_RDWR | O_NOCTTY));
    fact("isatty", isatty(s));
    fact("isatty null", isatty(open("/dev/null", O_RDWR)));
    struct winsize w = {24, 80, 0, 0}, v;
    say("swinsz", ioctl(m, TIOCSWINSZ, &w));
    say("gwinsz", ioctl(s, TIOCGWINSZ, &v));
    printf("%d x %d\n", v.ws_row, v.ws_col);
    struct termios t;
    say("tcgetattr", tcgetattr(s, &t));
    fact("canonical", !!(t.c_lflag & ICANON));
    printf("intr %d eof %d\n", t.c_cc[VINTR], t.c_cc[VEOF]);
    write(m, "ab\n", 3);
    char b[16];
    say("read line", read(s, b, sizeof b));
    say("read echo", read(m, b, sizeof b));
    cfmakeraw(&t);
    say("tcsetattr", tcsetattr(s, TCSANOW, &t));
    write(m, "xy", 2);
    say("read raw", read(s, b, sizeof b));
    int waiting = -1;
    say("fionread", ioctl(s, FIONREAD, &waiting));
    fact("waiting", waiting);
    say("tcgetpgrp", tcgetpgrp(s));
    say("tcflush", tcflush(s, TCIOFLUSH));
    say("tcsendbreak", tcdrain(s));
    say("gwinsz wild", ioctl(s, TIOCGWINSZ, WILD));
    int f = open("f", O_RDWR | O_CREAT, 0600);
    say("tcgets file", ioctl(f, TCGETS, &t));
    say("unknown", ioctl(f, 0xdeadbeef, &t));
    say("unknown closed", ioctl(99, 0xdeadbeef, &t));
    int yes = 1;
    say("fionbio", ioctl(f, FIONBIO, &yes));
    say("getfl", fcntl(f, F_GETFL) & O_NONBLOCK);
    say("fioclex", ioctl(f, FIOCLEX));
    say("getfd", fcntl(f, F_GETFD));
    say("fionclex", ioctl(f, FIONCLEX));
    say("getfd", fcntl(f, F_GETFD));
    unlink("f");
}
