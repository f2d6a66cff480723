/* Socket options: values, lengths, errors. No traffic: the container may have no network. */
#include "facts.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
static void get(const char *what, int s, int level, int name) {
    char b[64];
    socklen_t n = sizeof b;
    memset(b, 0, sizeof b);
    if (ok(what, getsockopt(s, level, name, b, &n)) == 0) printf("  length %u value %d\n", n, *(int *)b);
}
int main(void) {
    begin();
    int t = ok("tcp", socket(AF_INET, SOCK_STREAM, 0)), u = ok("udp", socket(AF_INET, SOCK_DGRAM, 0)), x = ok("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    int one = 1, small = 4096;
    get("type", t, SOL_SOCKET, SO_TYPE);
    get("domain", u, SOL_SOCKET, SO_DOMAIN);
    get("protocol", t, SOL_SOCKET, SO_PROTOCOL);
    get("accepting", t, SOL_SOCKET, SO_ACCEPTCONN);
    get("error", t, SOL_SOCKET, SO_ERROR);
    say("reuse", setsockopt(t, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    get("reuse", t, SOL_SOCKET, SO_REUSEADDR);
    say("sndbuf", setsockopt(t, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    get("sndbuf", t, SOL_SOCKET, SO_SNDBUF);
    struct linger l = {1, 5};
    say("linger", setsockopt(t, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    get("linger", t, SOL_SOCKET, SO_LINGER);
    struct timeval v = {1, 500000};
    say("rcvtimeo", setsockopt(t, SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v));
    v.tv_usec = 2000000;
    say("rcvtimeo bad", setsockopt(t, SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v));
    say("nodelay", setsockopt(t, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    get("nodelay", t, IPPROTO_TCP, TCP_NODELAY);
    get("nodelay on udp", u, IPPROTO_TCP, TCP_NODELAY);
    get("nodelay on unix", x, IPPROTO_TCP, TCP_NODELAY);
    say("short value", setsockopt(t, IPPROTO_TCP, TCP_NODELAY, &one, 1));
    say("wild value", setsockopt(t, SOL_SOCKET, SO_REUSEADDR, WILD, 4));
    say("unknown level", setsockopt(t, 12345, 1, &one, 4));
    say("unknown option", setsockopt(t, SOL_SOCKET, 12345, &one, 4));
    say("closed", setsockopt(99, SOL_SOCKET, SO_REUSEADDR, &one, 4));
    say("not a socket", setsockopt(0, SOL_SOCKET, SO_REUSEADDR, &one, 4));
    say("not a socket, unknown", setsockopt(0, 12345, 1, &one, 4));
    say("not a socket, bind", bind(0, WILD, 999));
    say("not a socket, get", getsockopt(0, 12345, 1, WILD, WILD));
    get("ttl", u, IPPROTO_IP, IP_TTL);
    say("tos", setsockopt(u, IPPROTO_IP, IP_TOS, &one, sizeof one));
    get("state", t, IPPROTO_TCP, TCP_INFO);
    struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, got;
    socklen_t n = sizeof got;
    say("bind", bind(u, (void *)&a, sizeof a));
    say("getsockname", getsockname(u, (void *)&got, &n));
    printf("%u %s port %d\n", n, inet_ntoa(got.sin_addr), got.sin_port != 0);
    say("bind short", bind(t, (void *)&a, 4));
    say("accept not listening", accept(t, NULL, NULL));
    say("recv not connected", recv(t, &one, 4, MSG_DONTWAIT));
    socklen_t bad = -1;
    say("negative length", getsockopt(t, SOL_SOCKET, SO_TYPE, &one, &bad));
    /* The room is claimed, not there. */
    char *end = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(end + 4096, 4096);
    n = 60000;
    say("large room", getsockopt(t, SOL_SOCKET, SO_TYPE, end + 4092, &n));
    printf("%u %d\n", n, *(int *)(end + 4092));
    say("wild length", getsockopt(t, SOL_SOCKET, SO_TYPE, &one, WILD));
    struct ucred c;
    int d[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, d);
    n = sizeof c;
    say("peercred", getsockopt(d[0], SOL_SOCKET, SO_PEERCRED, &c, &n));
    printf("%u own pid %d uid %d\n", n, c.pid == getpid(), c.uid == geteuid());
}
