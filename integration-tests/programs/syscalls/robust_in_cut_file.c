/* A thread ends and holds a robust mutex whose file was cut meanwhile: the word is not there any more. The runtime died of that. */
#include "facts.h"
#include <pthread.h>
#include <sched.h>
static void *hold(void *p) { fact("lock", pthread_mutex_lock(p)); return NULL; }
static void *hold_and_cut(void *p) { pthread_mutex_lock(p); say("cut", truncate("f", 0)); return NULL; }
static void *hold_nothing(void *p) {
    static struct { void *next; long offset; void *pending; } list = {(void *)0x11000, 0, (void *)0x12000};
    say("list", syscall(SYS_set_robust_list, &list, sizeof list));
    return p;
}
int main(void) {
    begin();
    int f = open("f", O_RDWR | O_CREAT, 0600);
    ftruncate(f, 4096);
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    pthread_mutexattr_t robust;
    pthread_mutexattr_init(&robust), pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST), pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(m, &robust);
    pthread_t t;
    pthread_create(&t, NULL, hold, m), pthread_join(t, NULL);
    fact("the owner died", pthread_mutex_lock(m) == EOWNERDEAD);
    fact("consistent", pthread_mutex_consistent(m)), pthread_mutex_unlock(m);
    pthread_create(&t, NULL, hold_and_cut, m), pthread_join(t, NULL);
    puts("joined");
    /* Words that a thread's end writes to are not there at all. */
    pthread_create(&t, NULL, hold_nothing, NULL), pthread_join(t, NULL);
    puts("joined");
    int status;
    pid_t pid = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, NULL, NULL, WILD, NULL);
    if (!pid) _exit(5);
    waitpid(pid, &status, 0);
    printf("child %x\n", status);
    pid = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, NULL, NULL, (void *)0x11000, NULL);
    if (!pid) _exit(6);
    waitpid(pid, &status, 0);
    printf("child %x\n", status);
    unlink("f");
}
