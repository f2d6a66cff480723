// A thread executes a program while another one waits for its vfork child, which sleeps: the waiting thread ends, and the new program does not have to wait.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int told[2];

static void *forker(void *arg) {
    pid_t pid = vfork();
    if (pid == 0) {
        pid_t own = getpid();
        write(told[1], &own, sizeof own);
        struct timespec long_time = {30, 0};
        nanosleep(&long_time, NULL);
        _exit(0);
    }
    return arg;
}

int main(int argc, char **argv) {
    if (argc > 2) {
        printf("%s\n", time(NULL) - atol(argv[1]) < 10 ? "soon" : "late");
        fflush(stdout);
        // The child is still there, and ours.
        printf("its child waits %d\n", waitpid(-1, NULL, WNOHANG));
        pid_t child = atoi(argv[2]);
        kill(child, SIGKILL);
        printf("it was %d\n", wait(NULL) == child);
        return 0;
    }
    pipe2(told, O_CLOEXEC);
    pthread_t t;
    pthread_create(&t, NULL, forker, NULL);
    pid_t child;
    char pid[32], now[32];
    read(told[0], &child, sizeof child);
    usleep(50000);
    snprintf(pid, sizeof pid, "%d", child);
    snprintf(now, sizeof now, "%ld", (long)time(NULL));
    execl("/proc/self/exe", argv[0], now, pid, (char *)NULL);
    perror("execl");
    return 1;
}
