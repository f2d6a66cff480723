/* The runtime's own words: an execveat with its marks in argv's place, made by the guest itself; and every pointer wrong in turn. A positive answer would be an entry of somebody's. */
#include "attack.h"
#define EXEC_MARK 0x766b657865630001ul    /* "vkexec\0\1" */
#define LIBRARY_MARK 0x766b6c6962720001ul /* "vklibr\0\1" */
static void attack(void) {
    int canary = MUST(open(CANARY, O_RDONLY | O_CLOEXEC)), good = MUST(open(GOOD, O_RDONLY | O_CLOEXEC));
    const unsigned long wild[] = {EXEC_MARK, LIBRARY_MARK, __builtin_bswap64(EXEC_MARK), __builtin_bswap64(LIBRARY_MARK), 1, ~0ul, 1ul << 63, 0x7ffffffff000ul, 0xfffffffff000ul, 0x100000000ul};
    for (int i = 0; i < (int)(sizeof wild / sizeof *wild); i++) {
        for (int fd = 0; fd < 2; fd++) {
            long file = fd ? good : canary;
            refused("argv", syscall(SYS_execveat, file, "", wild[i], environ, AT_EMPTY_PATH));
            refused("argv and note", syscall(SYS_execveat, file, "", wild[i], "/usr/bin/note", AT_EMPTY_PATH));
            refused("path", syscall(SYS_execveat, file, wild[i], environ, environ, AT_EMPTY_PATH));
            char *argv[] = {"x", NULL};
            if (execute_at(file, "", argv, (char *const *)wild[i], AT_EMPTY_PATH, SILENT) == 0) won("a wild environment was taken: status %#x", status_of_last);
        }
        refused("execve", syscall(SYS_execve, wild[i], environ, environ));
        refused("execve argv", syscall(SYS_execve, CANARY, wild[i], environ));
    }
    /* The path's end, the last pointer and the last string at the end of what is mapped. */
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(munmap(edge + 4096, 4096));
    memset(edge, 'x', 4096);
    refused("endless path", syscall(SYS_execve, edge + 4000, environ, environ));
    char **list = (char **)(edge + 4096 - 16);
    list[0] = "x"; list[1] = "y";
    refused("endless argv", syscall(SYS_execve, GOOD, list, environ));
    memset(edge, 'x', 4096);
    char *string[] = {edge + 4095, NULL};
    refused("endless string", syscall(SYS_execve, GOOD, string, environ));
}
static void twin(void) {
    char *argv[] = {"x", NULL};
    int good = MUST(open(GOOD, O_RDONLY | O_CLOEXEC));
    if (execute_at(good, "", argv, environ, AT_EMPTY_PATH, ASKS) || status_of_last) exit(4);
    if (execute_at(good, "", argv, NULL, AT_EMPTY_PATH, ASKS) || status_of_last) exit(4);
}
