/* Processes and threads without end: the container's limit (64) holds, an exec in the middle of it is still decided, and nothing is left. */
#include "attack.h"
static void *thread(void *unused) { (void)unused; pause(); return NULL; }
static long children, threads;
static void grow(long most) {
    for (; children < most / 2; children++) {
        pid_t pid = fork();
        if (pid < 0) break;
        if (pid == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) pause(); }
    }
    for (; threads < most / 2; threads++) {
        pthread_t t;
        if (pthread_create(&t, NULL, thread, NULL)) break;
    }
}
static void attack(void) {
    grow(600);
    note("%ld children, %ld threads", children, threads);
    if (children + threads >= 64) won("%ld processes and threads of at most 64", children + threads);
    char *argv[] = {"x", NULL};
    refused("exec in the middle of it", execve(CANARY, argv, environ));
    shared->asked++;
    kill(-1, SIGKILL);
}
static void twin(void) {
    grow(20);
    if (children != 10 || threads != 10) exit(4);
    kill(-1, SIGKILL);
}
