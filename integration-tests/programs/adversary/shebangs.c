/* Scripts whose interpreter is nobody's, is another script, is itself, is too long, is a descriptor, is the runtime. */
#include "attack.h"
static void script(const char *path, const char *text, size_t size) {
    int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755));
    if (write(fd, text, size) != (ssize_t)size) exit(3);
    close(fd);
}
#define SCRIPT(path, text) script(path, text, sizeof(text) - 1)
static void attack(void) {
    SCRIPT("/tmp/foreign", "#!" CANARY "\n");
    SCRIPT("/tmp/chain1", "#!/tmp/foreign\n"); SCRIPT("/tmp/chain2", "#!/tmp/chain1\n");
    SCRIPT("/tmp/loop", "#!/tmp/loop\n");
    SCRIPT("/tmp/loop1", "#!/tmp/loop2\n"); SCRIPT("/tmp/loop2", "#!/tmp/loop1\n");
    SCRIPT("/tmp/crlf", "#!" GOOD "\r\n"); SCRIPT("/tmp/nul", "#!" CANARY "\0/usr/bin/true\n");
    SCRIPT("/tmp/relative", "#!canary\n"); SCRIPT("/tmp/dots", "#!/usr/bin/../local/lib/adversary/unlisted/canary\n");
    SCRIPT("/tmp/self", "#!/proc/self/exe\n"); SCRIPT("/tmp/init", "#!/proc/1/exe\n"); SCRIPT("/tmp/root", "#!/proc/1/root" CANARY "\n");
    SCRIPT("/tmp/empty", "#!\n"); SCRIPT("/tmp/blank", "#! \t\n"); SCRIPT("/tmp/fifo", "#!/tmp/pipe\n"); SCRIPT("/tmp/directory", "#!/tmp\n"); SCRIPT("/tmp/device", "#!/dev/zero\n");
    MUST(mkfifo("/tmp/pipe", 0777));
    char depth[2][16], text[32];
    for (int i = 0; i < 9; i++) {
        snprintf(depth[0], 16, "/tmp/d%d", i);
        script(depth[0], text, snprintf(text, sizeof text, "#!%s\n", i ? depth[1] : GOOD));
        strcpy(depth[1], depth[0]);
    }
    static char large[600] = "#!/";
    memset(large + 3, 'a', 500); memcpy(large + 300, CANARY "\n", sizeof CANARY);
    script("/tmp/long", large, sizeof large);
    MUST(chdir(HOME "unlisted"));
    const char *all[] = {"foreign", "chain1", "chain2", "loop", "loop1", "nul", "relative", "dots", "init", "root", "empty", "blank", "fifo", "directory", "device", "d8", "long", "crlf"};
    for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) {
        char path[64];
        snprintf(path, sizeof path, "/tmp/%s", all[i]);
        /* A missing interpreter is the supervisor's finding, and its answer. */
        if (execute(path, SILENT) == 0) won("%s ran: status %#x", path, status_of_last);
        shared->asked++;
    }
    /* A program that is to run as its own interpreter is none of the attacker's: nothing but a listed one may come of it. */
    execute("/tmp/self", SILENT);
    printf("asked-uncounted\n");
}
static void twin(void) {
    SCRIPT("/tmp/plain", "#!" GOOD "\n"); SCRIPT("/tmp/chain", "#!/tmp/plain\n"); SCRIPT("/tmp/shell", "#! " SHELL " -e\nexit 0\n");
    const char *all[] = {"/tmp/plain", "/tmp/chain", "/tmp/shell"};
    for (int i = 0; i < 3; i++) if (execute(all[i], SILENT) || status_of_last) { note("%s", all[i]); exit(4); }
    printf("asked-uncounted\n");
}
