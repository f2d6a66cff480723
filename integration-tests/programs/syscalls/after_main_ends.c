/* pthread_exit in main: the process goes on without its first thread, whose /proc/self has no descriptors and no program any more.
 * A runtime that asks there closes nothing at exec, and takes any file for its own. */
#include "facts.h"
#include <pthread.h>
static char *self;
static void *rest(void *main_thread) {
    pthread_join(*(pthread_t *)main_thread, NULL);
    char b[4096];
    /* Joined is not yet gone. */
    for (int i = 0; i < 1000 && readlink("/proc/self/exe", b, sizeof b) >= 0; i++) usleep(1000);
    int closed = open("/dev/null", O_RDONLY | O_CLOEXEC), kept = open("/dev/null", O_RDONLY);
    ok("open", kept);
    ok("program", readlink("/proc/thread-self/exe", b, sizeof b));
    int fd = ok("command line", open("/proc/thread-self/cmdline", O_RDONLY));
    fact("is ours", read(fd, b, sizeof b) > 0 && !strcmp(b, self));
    fd = ok("maps", open("/proc/thread-self/maps", O_RDONLY));
    fact("are ours", read(fd, b, sizeof b) > 0);
    fd = ok("program's file", open("/proc/thread-self/exe", O_RDONLY));
    fact("is a program", read(fd, b, 4) == 4 && !memcmp(b, "\177ELF", 4));
    char one[16], two[16];
    sprintf(one, "%d", closed), sprintf(two, "%d", kept);
    ok("exec", execl(self, self, one, two, NULL));
    return NULL;
}
int main(int argc, char **argv) {
    if (argc == 3) {
        say("closed at exec", fcntl(atoi(argv[1]), F_GETFD));
        say("kept at exec", fcntl(atoi(argv[2]), F_GETFD));
        return 0;
    }
    begin();
    chdir("/");
    rmdir(facts_dir);
    self = argv[0];
    static pthread_t own, other;
    own = pthread_self();
    pthread_create(&other, NULL, rest, &own);
    pthread_exit(NULL);
}
