/* What Lua expects of a C library and WASI's has not: what is not there fails. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

FILE *tmpfile(void) { errno = ENOTSUP; return NULL; }
char *tmpnam(char *to) { (void)to; return NULL; }
int system(const char *command) { if (command) errno = ENOTSUP; return command ? -1 : 0; }

/* WASI has no working directory: PWD says where the caller is, and the C library takes it from there. */
__attribute__((constructor)) static void enter(void) {
    const char *where = getenv("PWD");
    if (where) chdir(where);
}
