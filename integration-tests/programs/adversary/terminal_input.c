/* TIOCSTI puts words into the terminal that whoever started the container reads next (CVE-2016-2568, CVE-2017-5226); line disciplines lead into drivers. On a terminal of its own, and on the caller's if there is one. */
#include "attack.h"
#include <termios.h>
static int terminal(int *master) {
    char name[64];
    *master = MUST(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (grantpt(*master) || unlockpt(*master) || ptsname_r(*master, name, sizeof name)) exit(3);
    setsid();
    return MUST(open(name, O_RDWR | O_CLOEXEC));
}
static void attack(void) {
    int master, ours = terminal(&master), discipline = 1;
    char c = 'x', twelve = 12;
    ioctl(ours, TIOCSCTTY, 0);
    const int fds[] = {0, 1, 2, ours, master, open("/dev/tty", O_RDWR | O_CLOEXEC), open("/dev/console", O_RDWR | O_CLOEXEC)};
    for (int i = 0; i < 7; i++) {
        const int fd = fds[i];
        refused("TIOCSTI", ioctl(fd, TIOCSTI, &c)); refused("TIOCLINUX", ioctl(fd, TIOCLINUX, &twelve)); refused("TIOCSETD", ioctl(fd, TIOCSETD, &discipline)); refused("TIOCCONS", ioctl(fd, TIOCCONS, 0));
        /* The kernel takes 32 bits of the request: filters that compare 64 were passed with others set. */
        refused("TIOCSTI with high bits", syscall(SYS_ioctl, fd, 0xffffffff00005412ul, &c)); refused("TIOCSTI with high bits of the descriptor", syscall(SYS_ioctl, fd | 1l << 40, TIOCSTI, &c));
    }
}
static void twin(void) {
    int master, ours = terminal(&master);
    struct winsize w = {24, 80, 0, 0};
    MUST(ioctl(ours, TIOCSWINSZ, &w));
    struct termios t;
    MUST(tcgetattr(ours, &t));
    if (write(master, "x\n", 2) != 2) exit(4);
    char line[4];
    if (read(ours, line, 4) != 2) exit(4);
}
