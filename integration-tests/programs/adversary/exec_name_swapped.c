/* What a name leads to is changed while execve follows it: renameat2(RENAME_EXCHANGE), a link that is replaced, and a script's interpreter that is one of these. */
#include "attack.h"
static void exchange(void) { renameat2(AT_FDCWD, "/tmp/s/a", AT_FDCWD, "/tmp/s/b", RENAME_EXCHANGE); }
static void relink(void) {
    static int n;
    unlink("/tmp/s/new");
    if (symlink(n++ & 1 ? "a" : "b", "/tmp/s/new") == 0) rename("/tmp/s/new", "/tmp/s/link");
}
static void race(const char *path, void (*work)(void), int asks, long times, int hostile) {
    pid_t pid = busy(work);
    long good = 0, bad = 0;
    char *argv[] = {(char *)path, NULL};
    const long before = shared->tried;
    /* A script's link has to be the good one twice, at the name and at the interpreter: that takes its time. */
    while ((shared->tried - before < times || (hostile && !good)) && in_time()) {
        if (execute_often(path, argv, 50, asks) == 0) { good++; if (status_of_last) won("%s: status %#x", path, status_of_last); } else bad++;
    }
    rest(pid);
    note("%s: %ld tries: %ld good, %ld children refused", path, shared->tried - before, good, bad);
    if (hostile ? !good || shared->tried - before == good : bad) { note("no race took place"); exit(5); }
}
static void all(const char *other) {
    mkdir("/tmp/s", 0755);
    copy(GOOD, "/tmp/s/a", 0755); copy(other, "/tmp/s/b", 0755);
    MUST(symlink("a", "/tmp/s/link"));
    int fd = MUST(open("/tmp/s/script", O_WRONLY | O_CREAT | O_CLOEXEC, 0755));
    if (write(fd, "#!/tmp/s/link\n", 14) != 14) exit(3);
    close(fd);
    race("/tmp/s/a", exchange, ASKS, tries / 2, other != GOOD);
    race("/tmp/s/link", relink, ASKS, tries / 2, other != GOOD);
    /* A script is asked for with its interpreter, and the interpreter again: how often, the race decides. */
    race("/tmp/s/script", relink, SILENT, tries / 4, other != GOOD);
    printf("asked-uncounted\n");
}
static void attack(void) { all(CANARY); }
static void twin(void) { all(GOOD); }
