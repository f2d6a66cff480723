/* execve(2), "Effect on process attributes": the program executes itself and looks. */
#include "facts.h"
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
extern char **environ;
static void on(int s) { (void)s; }
static void second(void) {
    struct sigaction a;
    sigset_t set;
    stack_t st;
    sigaction(SIGUSR1, NULL, &a); fact("caught is default", a.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &a); fact("ignored stays", a.sa_handler == SIG_IGN);
    sigaction(SIGCHLD, NULL, &a); fact("flags are none", a.sa_flags & (SA_NOCLDWAIT | SA_NOCLDSTOP));
    sigaction(SIGUSR2, NULL, &a); fact("nor of what is ignored", a.sa_flags & SA_NODEFER); fact("nor a mask", sigismember(&a.sa_mask, SIGHUP));
    int status = -1;
    pid_t pid = fork();
    if (!pid) _exit(7);
    usleep(50000);
    fact("child is waited for", waitpid(pid, &status, 0) == pid); fact("status", WEXITSTATUS(status));
    sigprocmask(SIG_BLOCK, NULL, &set); fact("mask stays", sigismember(&set, SIGTERM));
    sigpending(&set); fact("pending stays", sigismember(&set, SIGTERM));
    sigaltstack(NULL, &st); fact("no alternate stack", st.ss_flags == SS_DISABLE);
    fact("cloexec closed", fcntl(20, F_GETFD) == -1); fact("others open", fcntl(21, F_GETFD) != -1);
    puts(environ[0]);
    fact("environ ends", environ[1] == NULL);
    printf("%s\n", (char *)getauxval(AT_PLATFORM)); fact("page", getauxval(AT_PAGESZ)); fact("secure", getauxval(AT_SECURE)); fact("random", getauxval(AT_RANDOM) != 0);
    char name[17] = {0};
    prctl(PR_GET_NAME, name); fact("name changed", strcmp(name, "before") != 0);
    char cwd[64];
    fact("directory stays", getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/tmp"));
    fact("umask stays", umask(0) == 037);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    printf("limit %ld %ld\n", (long)files.rlim_cur, (long)files.rlim_max);
    _exit(3);
}
int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) second();
    signal(SIGUSR1, on); signal(SIGUSR2, SIG_IGN);
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGTERM); sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGTERM);
    struct sigaction no_zombies = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT | SA_NOCLDSTOP}, ignored = {.sa_handler = SIG_IGN, .sa_flags = SA_NODEFER};
    sigaddset(&ignored.sa_mask, SIGHUP);
    sigaction(SIGCHLD, &no_zombies, NULL), sigaction(SIGUSR2, &ignored, NULL);
    static char other[65536];
    stack_t st = {.ss_sp = other, .ss_size = sizeof other};
    sigaltstack(&st, NULL);
    prctl(PR_SET_NAME, "before");
    chdir("/tmp"); umask(037);
    dup3(1, 20, O_CLOEXEC); dup2(1, 21);
    char *none[] = {NULL}, *args[] = {argv[0], "again", NULL}, *env[] = {"ONLY=this", NULL};
    say("missing", execve("/does/not/exist", args, env)); say("directory", execve("/", args, env)); say("not executable", execve("/etc/passwd", args, env));
    say("below a file", execve("/etc/passwd/x", args, env)); say("wild path", execve(WILD, args, env)); say("wild argv", execve("/proc/self/exe", WILD, env));
    say("bad flags", syscall(SYS_execveat, AT_FDCWD, argv[0], args, env, 77)); say("bad fd", syscall(SYS_execveat, 99, "", none, none, AT_EMPTY_PATH));
    static char big[140000];
    memset(big, 'x', sizeof big - 1);
    char *huge[] = {argv[0], big, NULL};
    say("argument too long", execve("/proc/self/exe", huge, env));
    /* An exec takes no descriptor of the process's. */
    struct rlimit files = {64, 64};
    setrlimit(RLIMIT_NOFILE, &files);
    while (open("/", O_RDONLY | O_CLOEXEC) != -1) continue;
    ok("none left", open("/", O_RDONLY));
    execve("/proc/self/exe", args, env);
    perror("execve");
    return 1;
}
