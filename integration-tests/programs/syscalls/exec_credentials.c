/* execve(2) makes saved ids the effective ones, and capabilities those of capabilities(7). A user 0 that was left with PR_SET_KEEPCAPS came back in the next program, which also kept all capabilities. */
#include "facts.h"
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
static char *self;
static void again(const char *how) {
    char *args[] = {self, (char *)how, NULL}, *env[] = {NULL};
    execve("/proc/self/exe", args, env);
    perror("execve");
    _exit(1);
}
static void second(void) {
    uid_t u[3];
    gid_t g[3];
    getresuid(&u[0], &u[1], &u[2]), getresgid(&g[0], &g[1], &g[2]);
    printf("users %d %d %d %d groups %d %d %d %d\n", u[0], u[1], u[2], setfsuid(-1), g[0], g[1], g[2], setfsgid(-1));
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct c[2];
    syscall(SYS_capget, &h, c);
    /* How many there are is the container's affair. */
    for (int cap = CAP_CHOWN; cap <= CAP_KILL; cap += CAP_KILL - CAP_CHOWN)
        printf("capability %d: effective %d permitted %d inheritable %d\n", cap, c[0].effective >> cap & 1, c[0].permitted >> cap & 1, c[0].inheritable >> cap & 1);
    printf("none effective %d none permitted %d all %d\n", c[0].effective == 0, c[0].permitted == 0, c[0].effective == c[0].permitted);
    printf("keepcaps %d dumpable %d ambient %d\n", prctl(PR_GET_KEEPCAPS), prctl(PR_GET_DUMPABLE), prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0));
    ok("back to root", setresuid(0, 0, 0));
    _exit(0);
}
static void nothing(void) {}
static void left(void) { prctl(PR_SET_KEEPCAPS, 1), setresgid(1000, 1000, 0), setresuid(1000, 1000, 0); }
static void left_for_good(void) { prctl(PR_SET_KEEPCAPS, 1), setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000); }
static void only_effective(void) { setresuid(-1, 1000, -1); }
static void only_real(void) { setresuid(1000, 0, 0); }
static void file_system(void) { setfsuid(1000), setfsgid(1000); }
static void reduced(void) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct c[2];
    syscall(SYS_capget, &h, c);
    c[0].effective = 0, c[0].permitted &= ~(1u << CAP_KILL);
    syscall(SYS_capset, &h, c);
}
static void ambient(void) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct c[2];
    prctl(PR_SET_KEEPCAPS, 1), setresuid(1000, 1000, 0);
    syscall(SYS_capget, &h, c);
    c[0].inheritable = 1u << CAP_CHOWN;
    syscall(SYS_capset, &h, c);
    say("raise", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}
int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    self = argv[0];
    if (argc > 1) second();
    struct { const char *name; void (*make)(void); } ways[] = {{"as it is", nothing}, {"left", left}, {"left for good", left_for_good}, {"effective", only_effective},
        {"real", only_real}, {"file system", file_system}, {"reduced", reduced}, {"ambient", ambient}};
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        puts(ways[i].name);
        if (!fork()) { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ways[i].make(), again(ways[i].name); }
        wait(NULL);
    }
}
