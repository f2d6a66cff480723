/* Code made at run time: every way to a page that is both written by the guest and executed. The function written there answers 42. */
#include "attack.h"
#include <sys/shm.h>
static sigjmp_buf back;
static void caught(int s) { siglongjmp(back, s); }
/* mov eax, 42; ret */
static const unsigned char CODE[] = {0xb8, 42, 0, 0, 0, 0xc3};
static void run(const char *what, void *at) {
    if (at == MAP_FAILED) return;
    if (sigsetjmp(back, 1) == 0) {
        int (*made)(void) = (int (*)(void))at;
        if (made() == 42) won("%s: code made by the guest ran", what);
    }
}
static void *file_with_code(int *fd) {
    *fd = MUST(memfd_create("code", MFD_CLOEXEC));
    if (write(*fd, CODE, sizeof CODE) < 0) exit(3);
    return MAP_FAILED;
}
static char data[4096] __attribute__((aligned(4096)));
static void attack(void) {
    struct sigaction a = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &a, NULL); sigaction(SIGILL, &a, NULL); sigaction(SIGBUS, &a, NULL); sigaction(SIGTRAP, &a, NULL);
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, anonymous, -1, 0);
    if (p != MAP_FAILED) memcpy(p, CODE, sizeof CODE);
    run("rwx mapping", p);
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    memcpy(p, CODE, sizeof CODE);
    mprotect(p, 4096, PROT_READ | PROT_EXEC); run("mprotect", p);
    syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1); run("pkey_mprotect", p);
    mprotect(p, 4096, PROT_READ | PROT_WRITE); run("readable is executable", p);
    memcpy(data, CODE, sizeof CODE);
    mprotect(data, 4096, PROT_READ | PROT_WRITE | PROT_EXEC); run("data of the program", data);
    int fd;
    file_with_code(&fd);
    run("memfd, private", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
    run("memfd, shared", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    char *q = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    mprotect(q, 4096, PROT_READ | PROT_EXEC); run("memfd, made executable", q);
    run("remapped", mremap(p, 4096, 8192, MREMAP_MAYMOVE));
    int id = shmget(IPC_PRIVATE, 4096, 0700);
    void *s = shmat(id, NULL, SHM_EXEC);
    if (s != (void *)-1) { memcpy(s, CODE, sizeof CODE); run("shm", s); }
    shmctl(id, IPC_RMID, NULL);
    /* In the place of the program's own text: there is code behind these addresses, but not this. */
    char *text = (char *)((uintptr_t)attack & ~4095ul);
    if (mprotect(text, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) note("text is writable and says it is executable");
    run("over text", mmap(text + (1 << 20), 4096, PROT_READ | PROT_WRITE | PROT_EXEC, anonymous | MAP_FIXED, -1, 0));
    int lib = open(CANARY_LIBRARY, O_RDONLY | O_CLOEXEC);
    run("unlisted library", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, lib, 0x1000));
    int device = open("/dev/zero", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, device, 0);
        if (p != MAP_FAILED) memcpy(p, CODE, sizeof CODE);
        run("device", p);
    }
    syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    memcpy(p, CODE, sizeof CODE);
    run("personality", p);
    /* On the stack, and from the middle of an instruction of ours (0xc3 in a constant). */
    unsigned char stack[64];
    memcpy(stack, CODE, sizeof CODE);
    run("stack", stack);
}
static int forty_two(void) { return 42; }
static void twin(void) {
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(p, CODE, sizeof CODE);
    if (mprotect(p, 4096, PROT_READ) || memcmp(p, CODE, sizeof CODE)) exit(4);
    int (*volatile own)(void) = forty_two;
    if (own() != 42) exit(4);
}
