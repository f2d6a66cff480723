// Lines, words and bytes of files, or of standard input.
#include <ctype.h>
#include <stdio.h>

static int count(FILE *in, const char *name) {
    long lines = 0, words = 0, bytes = 0;
    int c, inside = 0;
    while ((c = getc(in)) != EOF) {
        bytes++;
        lines += c == '\n';
        words += !isspace(c) && !inside;
        inside = !isspace(c);
    }
    if (ferror(in)) {
        perror(name);
        return 1;
    }
    printf("%7ld %7ld %7ld %s\n", lines, words, bytes, name);
    return 0;
}

int main(int argc, char **argv) {
    int status = 0;
    if (argc < 2)
        return count(stdin, "-");
    for (int i = 1; i < argc; i++) {
        FILE *in = fopen(argv[i], "rb");
        if (!in) {
            perror(argv[i]);
            status = 1;
            continue;
        }
        status |= count(in, argv[i]);
        fclose(in);
    }
    return status;
}
