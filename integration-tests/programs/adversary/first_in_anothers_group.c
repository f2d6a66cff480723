/* The container's first process joins the group of a child, which ends: its number stays in use, and the kernel waits for that before the first process may end. The container could not be ended by anybody. */
#include "attack.h"
static void attack(void) {
    pid_t child = MUST(fork());
    if (child == 0) for (;;) pause();
    MUST(setpgid(child, child));
    const pid_t names[] = {0, getpid()};
    for (int i = 0; i < 2; i++) refused("joining a child's group", setpgid(names[i], child));
    kill(child, SIGKILL);
    MUST(waitpid(child, NULL, 0));
}
static void twin(void) {
    /* A group of its own it may have, if it is not a session's leader, and others join others'. */
    if (setpgid(0, 0) && getsid(0) != getpid()) exit(4);
    pid_t child = MUST(fork());
    if (child == 0) {
        pid_t grandchild = MUST(fork());
        if (grandchild == 0) for (;;) pause();
        MUST(setpgid(grandchild, grandchild));
        MUST(setpgid(0, grandchild));
        MUST(setpgid(0, 0));
        kill(grandchild, SIGKILL);
        MUST(waitpid(grandchild, NULL, 0));
        _exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    if (status) exit(4);
}
