// Standard input's lines in order; with -r the other way round, with -u each once.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int descending(const void *a, const void *b) {
    return ascending(b, a);
}

int main(int argc, char **argv) {
    int reverse = 0, unique = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-r"))
            reverse = 1;
        else if (!strcmp(argv[i], "-u"))
            unique = 1;
        else {
            fprintf(stderr, "usage: sortlines [-r] [-u]\n");
            return 2;
        }
    }
    char **lines = NULL, *line = NULL;
    size_t room = 0, n = 0, most = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) >= 0) {
        if (length > 0 && line[length - 1] == '\n')
            line[length - 1] = 0;
        if (n == most && !(lines = realloc(lines, (most = most * 2 + 64) * sizeof *lines)))
            abort();
        if (!(lines[n++] = strdup(line)))
            abort();
    }
    if (n)
        qsort(lines, n, sizeof *lines, reverse ? descending : ascending);
    for (size_t i = 0; i < n; i++)
        if (!unique || i == 0 || strcmp(lines[i], lines[i - 1]))
            puts(lines[i]);
    return 0;
}
