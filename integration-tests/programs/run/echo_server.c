/* Says what it is told, for ever: `echo_server tcp|udp PORT`. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int stream = strcmp(argv[1], "tcp") == 0;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    int yes = 1, s = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(s, (void *)&at, sizeof at) || (stream && listen(s, 8))) {
        perror("echo_server");
        return 1;
    }
    for (char b[512];;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        if (!stream) {
            ssize_t n = recvfrom(s, b, sizeof b, 0, (void *)&from, &length);
            if (n >= 0) sendto(s, b, n, 0, (void *)&from, length);
            continue;
        }
        int c = accept(s, NULL, NULL);
        for (ssize_t n; c >= 0 && (n = read(c, b, sizeof b)) > 0;)
            if (write(c, b, n) != n) break;
        if (c >= 0) close(c);
    }
}
