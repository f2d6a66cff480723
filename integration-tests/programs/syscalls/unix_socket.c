/* UNIX sockets: names, addresses cut to the room given, accept, shutdown, errors. */
#include "facts.h"
#include <sys/un.h>
int main(void) {
    begin();
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_un a = {AF_UNIX, "s"}, got;
    socklen_t n;
    char b[32];
    int s = ok("socket", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    say("bind", bind(s, (void *)&a, sizeof a));
    say("bind again", bind(s, (void *)&a, sizeof a));
    say("bind long", bind(s, (void *)&a, 500));
    say("bind wild", bind(s, WILD, sizeof a));
    say("accept early", accept(s, NULL, NULL));
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    say("connect early", connect(c, (void *)&a, sizeof a));
    say("listen", listen(s, 4));
    n = 4; memset(&got, 0x55, sizeof got);
    say("getsockname", getsockname(s, (void *)&got, &n));
    printf("length %u family %d path %.2s\n", n, got.sun_family, got.sun_path);
    n = -1;
    say("getsockname negative", getsockname(s, (void *)&got, &n));
    say("getpeername", getpeername(s, (void *)&got, &n));
    say("getsockname closed", getsockname(99, (void *)&got, &n));
    say("getsockname null", syscall(SYS_getsockname, s, NULL, NULL));
    say("connect", connect(c, (void *)&a, sizeof a));
    say("connect twice", connect(c, (void *)&a, sizeof a));
    n = sizeof got;
    int p = ok("accept4", accept4(s, (void *)&got, &n, SOCK_NONBLOCK));
    fact("peer length", n);
    say("accept wild length", (fcntl(s, F_SETFL, O_NONBLOCK), accept(s, (void *)&got, WILD)));
    say("accept none", accept(s, NULL, NULL));
    say("send", send(c, "hello", 5, 0));
    say("peek", recv(p, b, sizeof b, MSG_PEEK));
    say("recv", recv(p, b, 3, 0));
    n = sizeof got;
    say("recvfrom", recvfrom(p, b, sizeof b, 0, (void *)&got, &n));
    fact("sender length", n);
    say("recv none", recv(p, b, sizeof b, 0));
    say("shutdown", shutdown(c, SHUT_WR));
    say("recv end", recv(p, b, sizeof b, 0));
    say("send shut", send(c, "x", 1, 0));
    close(c);
    say("send closed", send(p, "x", 1, 0));
    int d[2];
    say("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
    say("send", send(d[0], "", 0, 0));
    say("recv empty", recv(d[1], b, sizeof b, 0));
    say("send", send(d[0], "long datagram", 13, 0));
    say("recv trunc", recv(d[1], b, 4, MSG_TRUNC));
    say("socketpair inet", socketpair(AF_INET, SOCK_STREAM, 0, d));
    say("socket bad type", socket(AF_UNIX, 77, 0));
    say("socket bad family", socket(77, SOCK_STREAM, 0));
    int f = open("/dev/null", O_RDWR);
    say("not a socket", send(f, "x", 1, 0));
    unlink("s");
}
