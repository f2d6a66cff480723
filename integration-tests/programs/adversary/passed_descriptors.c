/* Descriptors that came over a socket: O_PATH ones of programs, and odd ones (the socket itself, an epoll instance, procfs files, a hundred at once), received with room for fewer. */
#include "attack.h"
#include <sys/epoll.h>
static void send_fds(int to, const int *fds, int n) {
    char space[CMSG_SPACE(sizeof(int) * 253)] = {0}, byte = 'x';
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    MUST(sendmsg(to, &m, 0));
}
static int receive(int from, int *fds, int room) {
    char space[CMSG_SPACE(sizeof(int) * 253)], byte;
    struct iovec v = {&byte, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(sizeof(int) * room)};
    MUST(recvmsg(from, &m, MSG_CMSG_CLOEXEC));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int n = c ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
    if (n) memcpy(fds, CMSG_DATA(c), n * sizeof(int));
    return n;
}
static int passed(const char *path) {
    int pair[2], fd = MUST(open(path, O_PATH | O_CLOEXEC)), got[253];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    send_fds(pair[0], &fd, 1);
    if (receive(pair[1], got, 1) != 1) exit(3);
    return got[0];
}
static void attack(void) {
    char *argv[] = {"x", NULL}, byte;
    int fd = passed(CANARY);
    if (execute_at(fd, "", argv, environ, AT_EMPTY_PATH, ASKS) == 0) won("a passed O_PATH descriptor ran");
    fd = passed(HOME "unlisted");
    if (execute_at(fd, "canary", argv, environ, 0, ASKS) == 0) won("a name below a passed directory ran");
    fd = passed("/proc/self/mem");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    refused("memory through a passed descriptor", open(path, O_RDONLY | O_CLOEXEC));
    refused("read of an O_PATH descriptor", pread(fd, &byte, 1, (off_t)(uintptr_t)argv));
    int pair[2], many[253], got[253];
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    for (int i = 0; i < 100; i++) many[i] = pair[i & 1];
    many[0] = MUST(epoll_create1(EPOLL_CLOEXEC));
    send_fds(pair[0], many, 100);
    int n = receive(pair[1], got, 3);
    if (n > 4) won("%d descriptors in room for three", n);
    for (int i = 0; i < n; i++) if (fcntl(got[i], F_GETFD) == -1) won("a descriptor that is none");
}
static void twin(void) {
    char *argv[] = {"x", NULL};
    if (execute_at(passed(GOOD), "", argv, environ, AT_EMPTY_PATH, ASKS) || status_of_last) exit(4);
    if (execute_at(passed("/usr/bin"), "true", argv, environ, 0, ASKS) || status_of_last) exit(4);
}
