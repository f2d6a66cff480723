/* Processes and threads that end while the supervisor looks at their exec: their numbers and descriptors may be others' by then. No answer may reach another, and nobody may hang. */
#include "attack.h"
static void *execs(void *path) {
    char *argv[] = {path, NULL};
    for (;;) execve(path, argv, environ);
    return NULL;
}
static void storm(int hostile) {
    const char *paths[] = {CANARY, hostile ? "/tmp/text" : GOOD};
    int fd = MUST(open("/tmp/text", O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    if (write(fd, "no program", 10) < 0) exit(3);
    close(fd);
    long ended = 0;
    for (long i = 0; i < tries / 10; i++) {
        pid_t pids[4];
        for (int j = 0; j < 4; j++) {
            pids[j] = MUST(fork());
            if (pids[j]) continue;
            pthread_t t[3];
            for (int k = 0; k < 3; k++) pthread_create(&t[k], NULL, execs, (void *)paths[hostile ? k & 1 : 1]);
            if (j & 1) usleep(300 * j);
            else execs((void *)paths[1]);
            _exit(0);
        }
        usleep(500);
        for (int j = 0; j < 4; j++) kill(pids[j], SIGKILL);
        for (int j = 0; j < 4; j++) { int status; MUST(waitpid(pids[j], &status, 0)); ended++; if (WIFEXITED(status) && WEXITSTATUS(status)) won("status %#x", status); }
    }
    note("%ld ended", ended);
    printf("asked-uncounted\n");
    if (hostile) no_program(CANARY, ASKS); else program(GOOD);
}
static void attack(void) { storm(1); }
static void twin(void) { storm(0); }
