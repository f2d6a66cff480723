/* Whoever has the seccomp listener answers its own execs: it is looked for among descriptors, asked for at the runtime's and made anew; and the filter is to be got rid of. */
#include "attack.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
static void attack(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), notify = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog programs[] = {{1, &allow}, {1, &notify}};
    for (int i = 0; i < 2; i++) {
        refused("filter", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[i]));
        refused("filter with a listener", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &programs[i]));
        refused("prctl", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programs[i]));
    }
    refused("strict mode", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    refused("execveat check", prctl(PR_SET_MM, 13 /* EXE_FILE */, 0, 0, 0));
    for (int fd = 0; fd < 1024; fd++) {
        char request[80] = {0};
        unsigned long id = 1;
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, request) == 0 || errno == EINTR) won("descriptor %d is a listener", fd);
        refused("NOTIF_ID_VALID", ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id));
    }
    for (int pid = 1; pid < 40; pid++) {
        for (int fd = 0; fd < 40; fd++) {
            char path[64], link[128];
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            ssize_t n = readlink(path, link, sizeof link - 1);
            if (n > 0 && (link[n] = 0, strstr(link, "seccomp"))) won("%s is a listener", path);
        }
    }
    no_program(CANARY, ASKS);
}
static void twin(void) {
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0) exit(4);
    program(GOOD);
}
