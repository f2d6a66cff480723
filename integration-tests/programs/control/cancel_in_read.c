// pthread_cancel of a thread blocked in read: cleanup handlers run, join gives PTHREAD_CANCELED.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static int fds[2];

static void cleanup(void *arg) { printf("cleanup %s\n", (const char *)arg); }

static void *reader(void *arg) {
    char c;
    pthread_cleanup_push(cleanup, arg);
    write(fds[1], "r", 1);
    read(fds[0], &c, 1);
    read(fds[0], &c, 1);
    puts("not reached");
    pthread_cleanup_pop(0);
    return NULL;
}

int main(void) {
    pthread_t t;
    void *result;
    pipe(fds);
    pthread_create(&t, NULL, reader, "one");
    usleep(50000);
    pthread_cancel(t);
    pthread_join(t, &result);
    printf("cancelled %d\n", result == PTHREAD_CANCELED);
}
