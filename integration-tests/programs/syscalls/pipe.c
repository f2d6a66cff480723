/* pipe2, splice, tee, sendfile, copy_file_range: lengths, ends, errors. */
#include "facts.h"
#include <sys/sendfile.h>
int main(void) {
    begin();
    signal(SIGPIPE, SIG_IGN);
    int p[2], q[2];
    char b[64];
    say("pipe2", pipe2(p, O_NONBLOCK | O_CLOEXEC));
    say("numbers", p[0] * 10 + p[1]);
    say("pipe2 flag", pipe2(q, O_DIRECTORY));
    say("pipe2 wild", syscall(SYS_pipe2, WILD, 0));
    say("read empty", read(p[0], b, 1));
    say("write", write(p[1], "abcdef", 6));
    int n = 0;
    say("fionread", ioctl(p[0], FIONREAD, &n));
    fact("waiting", n);
    say("lseek", lseek(p[0], 0, SEEK_SET));
    say("size", fcntl(p[0], F_SETPIPE_SZ, 8192));
    say("getsize", fcntl(p[1], F_GETPIPE_SZ));
    say("pipe", pipe(q));
    say("tee", tee(p[0], q[1], 4, 0));
    say("read tee", read(q[0], b, sizeof b));
    int f = ok("open", open("f", O_RDWR | O_CREAT, 0600));
    say("splice", splice(p[0], NULL, f, NULL, 64, 0));
    loff_t off = 2;
    say("splice offset", splice(f, &off, q[1], NULL, 64, 0));
    fact("offset", off);
    say("splice files", splice(f, &off, f, NULL, 1, 0));
    off = 1;
    say("sendfile", sendfile(q[1], f, &off, 3));
    fact("offset", off);
    say("sendfile wild", sendfile(q[1], f, WILD, 3));
    say("read", read(q[0], b, sizeof b));
    printf("%.7s\n", b);
    int g = ok("open", open("g", O_RDWR | O_CREAT, 0600));
    off = 0;
    say("copy_file_range", copy_file_range(f, &off, g, NULL, 100, 0));
    say("copy_file_range flag", copy_file_range(f, &off, g, NULL, 100, 7));
    say("size", lseek(g, 0, SEEK_END));
    close(p[0]);
    say("write broken", write(p[1], "x", 1));
    close(q[1]);
    say("read end", read(q[0], b, 1));
    while (fcntl(p[1], F_GETFD) >= 0 && close(p[1]) == 0) {}
    unlink("f"); unlink("g");
}
