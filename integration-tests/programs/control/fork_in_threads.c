// fork in a threaded program: the child has one thread, malloc works in it, locks taken by other threads are usable again.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int stop;

static void *churn(void *arg) {
    while (!stop) free(malloc(1000));
    return NULL;
}

int main(void) {
    pthread_t t[3];
    int failures = 0;
    for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, churn, NULL);
    for (int round = 0; round < 20; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int k = 0; k < 100; k++) free(malloc(k * 100));
            _exit(round);
        }
        int status;
        waitpid(pid, &status, 0);
        failures += !WIFEXITED(status) || WEXITSTATUS(status) != round;
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    printf("failures %d\n", failures);
}
