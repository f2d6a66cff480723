/* Arguments and environments larger than anything: a million pointers, one endless string, lists that end where memory ends. Refused as Linux refuses them, and in time. */
#include "attack.h"
static void big(size_t count, size_t each, int too_big) {
    char *text = malloc(each + 1), **argv = malloc((count + 1) * sizeof *argv);
    memset(text, 'x', each); text[each] = 0;
    for (size_t i = 0; i < count; i++) argv[i] = text;
    argv[count] = NULL;
    char *none[] = {"x", NULL};
    int as_arguments = execute_at(AT_FDCWD, GOOD, argv, none, 0, too_big ? SILENT : ASKS), as_environment = execute_at(AT_FDCWD, GOOD, none, argv, 0, too_big ? SILENT : ASKS);
    if (too_big && (as_arguments != E2BIG || as_environment != E2BIG)) won("%zu of %zu bytes: %s, %s", count, each, strerror(as_arguments), strerror(as_environment));
    if (!too_big && (as_arguments || as_environment)) exit(4);
    free(argv); free(text);
}
static void attack(void) {
    big(1000000, 8, 1); big(1, 200000, 1); big(100, 131000, 1); big(10000000, 0, 1);
    /* All of the window that can be had, as one list. */
    size_t size = 1ul << 30;
    char **list = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (list != MAP_FAILED) {
        for (size_t i = 0; i < size / 8 / 16; i++) list[i] = "x";
        pid_t pid = MUST(fork());
        if (pid == 0) { refused("endless list", execve(GOOD, list, environ)); _exit(0); }
        MUST(waitpid(pid, NULL, 0));
    }
}
static void twin(void) { big(1000, 100, 0); big(10, 130000, 0); }
