/* Changes its credentials and its death signal, forks, and stays: what must still end with the supervisor. */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    prctl(PR_SET_PDEATHSIG, 0);
    if (setgid(65534) || setuid(65534)) return 1;
    int signal = -1;
    prctl(PR_GET_PDEATHSIG, &signal);
    if (fork() == 0) setsid();
    else printf("changed %d %d\n", getuid(), signal);
    for (;;) pause();
}
