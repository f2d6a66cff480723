// What a program is given: arguments, environment, streams, exit status.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    printf("GREETING=%s\n", getenv("GREETING") ? getenv("GREETING") : "(none)");
    char line[64];
    while (fgets(line, sizeof line, stdin))
        printf("read: %s", line);
    fprintf(stderr, "to the other stream\n");
    return argc > 1 ? atoi(argv[1]) : 0;
}
