/* In no manifest. If it ever runs natively, it leaves a mark on the host: in the directory that every case is given as /out, or, if it runs on the host itself, where the suite looks, too. */
#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int fd = open("/out/mark", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) fd = open("/var/tmp/vkernel-adversary-mark", O_WRONLY | O_CREAT | O_APPEND, 0666);
    return write(fd, "canary\n", 7) == 7 ? 77 : 78;
}
