/* Executes an interpreter while another thread writes another command line into the one that is being judged: racer TRIES SCRIPT. Each child says GOOD (the script), EVIL (the text), or is refused. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static char word[256];
static const char *script;
static atomic_int over;
static void *rewrite(void *unused) {
    (void)unused;
    while (!over) {
        strcpy(word, "-c");
        for (volatile int i = 0; i < 2000; i++) ;
        strcpy(word, script);
        for (volatile int i = 0; i < 2000; i++) ;
    }
    return NULL;
}
int main(int argc, char **argv) {
    if (argc != 3) return 2;
    script = argv[2];
    strcpy(word, script);
    pthread_t thread;
    if (pthread_create(&thread, NULL, rewrite, NULL)) return 3;
    int ran = 0, refused = 0;
    for (int i = 0; i < atoi(argv[1]); i++) {
        char *line[] = {"bash", word, "echo EV''IL", NULL};
        pid_t child = vfork();
        if (child == 0) {
            execv("/usr/bin/bash", line);
            _exit(126);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 126) refused++; else ran++;
    }
    over = 1;
    pthread_join(thread, NULL);
    printf("ran %d refused %d\n", ran, refused);
    return 0;
}
