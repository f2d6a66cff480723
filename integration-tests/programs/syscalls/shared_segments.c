/* System V shared memory: attaching where asked and where not, between processes, read-only, partly unmapped, over other mappings; what the kernel counts. */
#include "facts.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/wait.h>

static long attached(int id) {
    struct shmid_ds d;
    return shmctl(id, IPC_STAT, &d) ? -1 : (long)d.shm_nattch;
}

static int named(const void *at) { /* 1: /proc calls the mapping at this address a segment's */
    char line[512], start[32];
    int found = 0;
    snprintf(start, sizeof start, "%08lx-", (unsigned long)at);
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) found |= !strncmp(line, start, strlen(start)) && strstr(line, "rw-s") && strstr(line, "/SYSV00000000 (deleted)");
    fclose(f);
    return found;
}

int main(void) {
    begin();
    int id = ok("shmget", shmget(IPC_PRIVATE, 3 * 4096 + 1, 0600));
    char *a = shmat(id, NULL, 0);
    fact("attached", a != (void *)-1);
    fact("named", named(a));
    fact("count", attached(id));
    struct shmid_ds d;
    say("stat", shmctl(id, IPC_STAT, &d));
    fact("size", d.shm_segsz);
    a[0] = 'p';
    a[3 * 4096] = 'q';
    if (fork() == 0) {
        fact("count in the child", attached(id));
        a[1] = 'c';
        say("child detaches", shmdt(a));
        _exit(0);
    }
    wait(NULL);
    fact("seen", a[1]);
    fact("count again", attached(id));
    char *b = shmat(id, NULL, SHM_RDONLY);
    fact("second", b != a && b[0] == 'p' && b[3 * 4096] == 'q');
    int fd = open("/dev/zero", O_RDONLY);
    say("read into a read-only segment", read(fd, b, 1));
    say("occupied", (long)shmat(id, a, 0));
    say("misaligned", (long)shmat(id, a + 1, 0));
    char *room = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fact("replaced", shmat(id, room, SHM_REMAP) == room && room[0] == 'p');
    fact("behind it", room[4 * 4096]);
    fact("rounded", shmat(id, room + 4097, SHM_RND | SHM_REMAP) == room + 4096);
    fact("the first page of the one before", room[0]);
    munmap(room + 4096, 4096);
    say("detach what is left behind a page", shmdt(room + 4096));
    say("detach the page", shmdt(room));
    say("detach twice", shmdt(room));
    say("detach no segment", shmdt(room + 7 * 4096));
    say("remap nowhere", (long)shmat(id, NULL, SHM_REMAP));
    say("no such segment", (long)shmat(-1, NULL, 0));
    say("null", shmctl(id, IPC_STAT, NULL));
    say("unknown", shmctl(id, 99, NULL));
    say("detach the second", shmdt(b));
    say("remove", shmctl(id, IPC_RMID, NULL));
    fact("still there", a[0] == 'p');
    say("detach", shmdt(a));
    say("gone", attached(id));
    id = ok("key", shmget(0x76b5e9, 100, IPC_CREAT | IPC_EXCL | 0640));
    say("key again", shmget(0x76b5e9, 100, IPC_CREAT | IPC_EXCL | 0640));
    fact("found", shmget(0x76b5e9, 0, 0) == id);
    say("too large", shmget(0x76b5e9, 10000, 0));
    say("empty", shmget(IPC_PRIVATE, 0, 0600));
    say("remove", shmctl(id, IPC_RMID, NULL));
    return 0;
}
