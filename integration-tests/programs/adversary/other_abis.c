/* Numbers of other ABIs in the place of ours: x32 (0x40000000 set), int 0x80, numbers beyond the table, the vsyscall page. Filters that only look at small numbers were passed so. */
#include "attack.h"
static sigjmp_buf back;
static void caught(int s) { siglongjmp(back, s); }
static long int80(long nr, long a, long b, long c) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return r;
}
static void attack(void) {
    static const char path[] = CANARY;
    char *argv[] = {(char *)path, NULL};
    const long x32 = 0x40000000;
    refused("x32 execve", syscall(x32 | 520, path, argv, environ));
    refused("x32 execveat", syscall(x32 | 545, AT_FDCWD, path, argv, environ, 0));
    refused("x32 number of ptrace", syscall(x32 | SYS_ptrace, 0, 0, 0, 0));
    refused("x32 number of getpid", syscall(x32 | SYS_getpid));
    refused("x32 openat", syscall(x32 | SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC));
    const long odd[] = {-1, 1024, 0xfffffff, 0x80000000, 0x7fffffff, 0x100000000 + SYS_getpid, 0x8000000000000000 + SYS_getpid, 335, 600};
    for (int i = 0; i < (int)(sizeof odd / sizeof *odd); i++) refused("odd number", syscall(odd[i], 0, 0, 0, 0));
    struct sigaction a = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &a, NULL); sigaction(SIGILL, &a, NULL); sigaction(SIGSYS, &a, NULL);
    if (sigsetjmp(back, 1) == 0) { long pid = int80(20, 0, 0, 0); if (pid > 0) won("int 0x80: getpid is %ld", pid); }
    if (sigsetjmp(back, 1) == 0) { long r = int80(11, (long)path, (long)argv, 0); won("int 0x80: execve came back with %ld", r); }
    if (sigsetjmp(back, 1) == 0) { long (*volatile legacy)(void *) = (long (*)(void *))0xffffffffff600000; if (legacy(NULL) >= 0) note("the vsyscall page answers"); }
}
static void twin(void) {
    if (syscall(SYS_getpid) != getpid()) exit(4);
}
