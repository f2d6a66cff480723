// exec from a thread that is not the leader, while others run: the process becomes the program, with the same pid.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *spin(void *arg) {
    for (;;) free(malloc(100));
    return NULL;
}

static void *execer(void *arg) {
    char pid[32];
    snprintf(pid, sizeof pid, "%d", getpid());
    execl("/bin/bash", "bash", "-c", "[ $$ = $0 ] && echo same pid", pid, (char *)NULL);
    perror("execl");
    return NULL;
}

int main(void) {
    pthread_t t;
    for (int i = 0; i < 3; i++) pthread_create(&t, NULL, spin, NULL);
    usleep(20000);
    pthread_create(&t, NULL, execer, NULL);
    pause();
}
