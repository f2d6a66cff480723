/* sendmsg, recvmsg, sendmmsg, recvmmsg: vectors, descriptors and credentials in control data. */
#include "facts.h"
#include <sys/un.h>
static char control[256] __attribute__((aligned(8)));
int main(void) {
    begin();
    int d[2], one = 1;
    socketpair(AF_UNIX, SOCK_DGRAM, 0, d);
    setsockopt(d[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    char b[64] = {0};
    struct iovec out[2] = {{"abc", 3}, {"defg", 4}}, in[2] = {{b, 2}, {b + 8, 32}};
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 2};
    int f = open("f", O_RDWR | O_CREAT, 0600);
    write(f, "file", 4);
    m.msg_control = control; m.msg_controllen = CMSG_SPACE(sizeof f);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof f);
    memcpy(CMSG_DATA(c), &f, sizeof f);
    say("sendmsg", sendmsg(d[0], &m, 0));
    struct msghdr r = {.msg_iov = in, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    say("recvmsg", recvmsg(d[1], &r, MSG_CMSG_CLOEXEC));
    printf("%.2s %.5s flags %x\n", b, b + 8, r.msg_flags & ~MSG_CMSG_CLOEXEC);
    for (c = CMSG_FIRSTHDR(&r); c; c = CMSG_NXTHDR(&r, c)) {
        printf("control %d %d %ld\n", c->cmsg_level, c->cmsg_type, (long)c->cmsg_len);
        if (c->cmsg_type == SCM_RIGHTS) {
            int g;
            memcpy(&g, CMSG_DATA(c), sizeof g);
            say("same file", pread(g, b, 4, 0));
            say("cloexec", fcntl(g, F_GETFD));
        }
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred u;
            memcpy(&u, CMSG_DATA(c), sizeof u);
            printf("own pid %d uid %d\n", u.pid == getpid(), u.uid == getuid());
        }
    }
    send(d[0], "truncated message", 17, 0);
    r.msg_controllen = 4; r.msg_iovlen = 1;
    say("recvmsg short", recvmsg(d[1], &r, 0));
    printf("flags %x\n", r.msg_flags);
    m.msg_control = NULL; m.msg_controllen = 0;
    m.msg_iovlen = 1025;
    say("too many vectors", sendmsg(d[0], &m, 0));
    m.msg_iovlen = 1; m.msg_iov = WILD;
    say("wild vector", sendmsg(d[0], &m, 0));
    say("wild header", sendmsg(d[0], WILD, 0));
    say("wild closed", sendmsg(99, WILD, 0));
    m.msg_iov = out;
    m.msg_control = control; m.msg_controllen = 16;
    ((struct cmsghdr *)control)->cmsg_len = 3;
    say("bad control", sendmsg(d[0], &m, 0));
    m.msg_controllen = 0;
    struct mmsghdr many[3] = {{.msg_hdr = m}, {.msg_hdr = m}, {.msg_hdr = m}};
    many[1].msg_hdr.msg_iovlen = 2;
    say("sendmmsg", sendmmsg(d[0], many, 3, 0));
    printf("%u %u %u\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    struct mmsghdr got[4] = {0};
    for (int i = 0; i < 4; i++) got[i].msg_hdr.msg_iov = &in[1], got[i].msg_hdr.msg_iovlen = 1;
    say("recvmmsg", recvmmsg(d[1], got, 4, MSG_DONTWAIT, NULL));
    printf("%u %u %u %u\n", got[0].msg_len, got[1].msg_len, got[2].msg_len, got[3].msg_len);
    say("recvmmsg none", recvmmsg(d[1], got, 4, MSG_DONTWAIT, NULL));
    many[1].msg_hdr.msg_iov = WILD;
    say("sendmmsg up to a bad one", sendmmsg(d[0], many, 3, 0));
    say("sendmmsg from a bad one", sendmmsg(d[0], many + 1, 2, 0));
    say("sendmmsg wild", sendmmsg(d[0], WILD, 2, 0));
    m.msg_control = control; m.msg_controllen = 1 << 20;
    say("very long control", sendmsg(d[0], &m, 0));
    say("wild but no socket", sendmsg(f, WILD, 0));
    say("recvmsg no socket", recvmsg(f, WILD, 0));
    say("many no socket", recvmmsg(f, WILD, 2, 0, NULL));
    /* Last: the error of the second one would be the next call's natively. */
    got[1].msg_hdr.msg_iov = WILD;
    say("recvmmsg up to a bad one", recvmmsg(d[1], got, 4, MSG_DONTWAIT, NULL));
    unlink("f");
}
