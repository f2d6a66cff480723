// Corners that a review found: each was wrong once.
#define _GNU_SOURCE
#include "facts.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>

static void *nothing(void *p) { return p; }

// A thread that makes threads while another forks: the child must be able to make one, too.
static volatile int stop;
static void *maker(void *p) {
    while (!stop) {
        pthread_t t;
        if (!pthread_create(&t, 0, nothing, 0)) pthread_join(t, 0);
    }
    return p;
}
static void forks_beside_threads(void) {
    pthread_t t, u;
    pthread_create(&t, 0, maker, 0);
    int good = 0;
    for (int k = 0; k < 60; k++) {
        pid_t pid = fork();
        if (!pid) {
            alarm(20);
            pthread_create(&u, 0, nothing, 0);
            pthread_join(u, 0);
            _exit(7);
        }
        int status;
        waitpid(pid, &status, 0);
        good += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    stop = 1;
    pthread_join(t, 0);
    printf("forks beside threads: %d\n", good);
}

// execve of a thread that is not the leader keeps that thread's credentials.
static void *other_user(void *p) {
    if (syscall(SYS_setresgid, 65534, 65534, 65534) || syscall(SYS_setresuid, 65534, 65534, 65534)) _exit(3);
    execl("/proc/self/exe", "corners", "ids", (char *)0);
    _exit(4);
}
static void exec_from_thread(void) {
    if (!fork()) {
        pthread_t t;
        pthread_create(&t, 0, other_user, 0);
        for (;;) pause();
    }
    int status;
    wait(&status);
    printf("exec from thread: %x\n", status);
}

static void grandchild_of_vfork(void) {
    volatile int x = 1;
    pid_t pid = vfork();
    if (!pid) {
        if (!fork()) _exit(0);
        usleep(100000);
        x = 7;
        _exit(0);
    }
    waitpid(pid, 0, 0);
    printf("vfork: %d\n", x);
}

// A program that holds a robust lock when it executes another gives the lock up.
static void robust_exec(void) {
    pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(m, &a);
    pid_t pid = fork();
    if (!pid) {
        pthread_mutex_lock(m);
        execl("/proc/self/exe", "corners", "sleep", (char *)0);
        _exit(4);
    }
    usleep(200000);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 5;
    printf("robust: %d\n", pthread_mutex_timedlock(m, &until) == EOWNERDEAD);
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
}

static volatile int code;
static sigjmp_buf again;
static void seen(int s, siginfo_t *i, void *u) {
    code = i->si_code;
    siglongjmp(again, 1);
}
static void memory(void) {
    char *p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("mremap too long", (long)mremap(p, 4096, -8192UL, MREMAP_MAYMOVE));
    memset(p, 1, 4 * 4096);
    munmap(p + 4096, 4096);
    say("madvise over a hole", madvise(p, 4 * 4096, MADV_DONTNEED));
    printf("advised all the same: %d %d %d\n", p[0], p[2 * 4096], p[3 * 4096]);
    sigaction(SIGSEGV, &(struct sigaction){.sa_sigaction = seen, .sa_flags = SA_SIGINFO}, 0);
    if (!sigsetjmp(again, 1)) *(volatile char *)(p + 4096) = 1;
    printf("not mapped: %d\n", code);
    mprotect(p, 4096, PROT_READ);
    if (!sigsetjmp(again, 1)) *(volatile char *)p = 1;
    printf("not writable: %d\n", code);
}

static __attribute__((noinline)) int deep(int n) {
    volatile char room[1 << 20];
    room[0] = n, room[sizeof room - 1] = n;
    return n ? deep(n - 1) + room[0] - room[sizeof room - 1] + 1 : 0;
}
static void stack_limit(void) {
    struct rlimit l;
    getrlimit(RLIMIT_STACK, &l);
    l.rlim_cur = 64 << 20;
    say("stack limit", setrlimit(RLIMIT_STACK, &l));
    printf("deep: %d\n", deep(40));
}

// The kernel writes as many sources as the value says, however short it is.
static void sources(void) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char value[4096];
    memset(value, 0x55, sizeof value);
    struct ip_msfilter *f = (void *)value;
    f->imsf_multiaddr.s_addr = inet_addr("239.1.2.3");
    f->imsf_interface.s_addr = inet_addr("127.0.0.1");
    f->imsf_numsrc = 1000;
    socklen_t n = 12;
    say("short filter", getsockopt(s, IPPROTO_IP, IP_MSFILTER, value, &n));
    n = 16;
    getsockopt(s, IPPROTO_IP, IP_MSFILTER, value, &n);
    printf("behind it: %02x\n", value[16]);
    close(s);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "ids")) {
        printf("ids %d %d\n", geteuid(), getegid());
        return 0;
    }
    if (argc > 1) return sleep(20);
    setvbuf(stdout, 0, _IONBF, 0);
    forks_beside_threads();
    exec_from_thread();
    grandchild_of_vfork();
    robust_exec();
    memory();
    stack_limit();
    sources();
    say("keep capabilities", prctl(PR_SET_KEEPCAPS, 1));
    say("kept", prctl(PR_GET_KEEPCAPS));
    return 0;
}
