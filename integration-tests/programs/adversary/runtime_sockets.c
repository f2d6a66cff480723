/* Sockets of runtimes and their helpers that lie inside, or have abstract names that network namespaces share (CVE-2020-15257): whoever can talk to one commands the host. */
#include "attack.h"
#include <stddef.h>
static int connects(const char *name, size_t length) {
    int found = 0;
    for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
        struct sockaddr_un a = {AF_UNIX};
        memcpy(a.sun_path, name, length < sizeof a.sun_path ? length : sizeof a.sun_path);
        int s = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        if (s >= 0 && connect(s, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + length) == 0) found = 1;
        if (s >= 0) close(s);
    }
    return found;
}
static void walk(const char *path, int depth) {
    DIR *dir = depth > 6 ? NULL : opendir(path);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        char name[4096];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_type == DT_SOCK && connects(name, strlen(name))) won("%s answers", name);
        if (e->d_type == DT_DIR && strcmp(name, "/proc") && strcmp(name, "/sys")) walk(name, depth + 1);
    }
    closedir(dir);
}
static void attack(void) {
    walk("", 0);
    char text[256];
    FILE *all = fopen("/proc/net/unix", "r");
    if (all && fgets(text, sizeof text, all)) while (fgets(text, sizeof text, all)) {
        char *at = strchr(text, '@');
        if (at) { text[strcspn(text, "\n")] = 0; *at = 0; if (connects(at, strlen(at + 1) + 1)) won("abstract socket %s answers", at + 1); }
    }
    const char *known[] = {"/run/podman/podman.sock", "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/vkernel/vkernel.sock", "/run/vkernel/containers", "/run/systemd/private", "/run/dbus/system_bus_socket", "/dev/log"};
    for (int i = 0; i < 10; i++) if (connects(known[i], strlen(known[i]))) won("%s answers", known[i]);
}
static void twin(void) {
    struct sockaddr_un a = {AF_UNIX, "/tmp/own"};
    int s = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(bind(s, (struct sockaddr *)&a, sizeof a));
    MUST(listen(s, 9));
    if (!connects("/tmp/own", 8)) exit(4);
}
