/* Files by which the kernel starts a program of somebody's choice on the host, or obeys: core_pattern, modprobe, uevent_helper, release_agent, binfmt_misc, sysrq. Opened for writing only; nothing is written. */
#include "attack.h"
static void look(const char *path) {
    for (int flags = O_WRONLY; flags <= O_RDWR; flags++) {
        int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0) { won("%s can be written", path); close(fd); }
    }
}
static void attack(void) {
    static const char *paths[] = {
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/fs/binfmt_misc/register", "/proc/sysrq-trigger", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups",
        "/proc/self/oom_score_adj", "/proc/self/attr/exec", "/proc/self/timerslack_ns", "/proc/self/clear_refs", "/proc/self/coredump_filter", "/proc/self/autogroup", "/proc/self/comm", "/proc/irq/0/smp_affinity", "/proc/kcore", "/proc/kmem", "/proc/mtrr", "/proc/bus/pci",
        "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/profiling", "/sys/kernel/debug/tracing/kprobe_events", "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/pids.max",
        "/sys/module/overlay/parameters/metacopy", "/dev/mem", "/dev/kmsg", "/dev/port", "/dev/fuse", "/dev/kvm", "/dev/sda", "/dev/vda", "/dev/loop-control", "/dev/mapper/control", "/dev/net/tun"};
    for (int i = 0; i < (int)(sizeof paths / sizeof *paths); i++) look(paths[i]);
    /* Nodes of one's own. */
    struct { const char *name; mode_t type; int major, minor; } nodes[] = {{"/tmp/vda", S_IFBLK, 254, 0}, {"/tmp/sda", S_IFBLK, 8, 0}, {"/tmp/mem", S_IFCHR, 1, 1}, {"/tmp/kmsg", S_IFCHR, 1, 11}, {"/tmp/whiteout", S_IFCHR, 0, 0}};
    for (int i = 0; i < 5; i++) {
        refused(nodes[i].name, mknod(nodes[i].name, nodes[i].type | 0666, nodes[i].major << 8 | nodes[i].minor));
        refused("below", syscall(SYS_mknodat, AT_FDCWD, nodes[i].name, nodes[i].type | 0666, nodes[i].major << 8 | nodes[i].minor));
    }
}
static void twin(void) {
    if (open("/proc/sys/kernel/osrelease", O_RDONLY | O_CLOEXEC) < 0 || open("/dev/null", O_RDWR | O_CLOEXEC) < 0) exit(4);
    MUST(mkfifo("/tmp/pipe", 0600)); MUST(mknod("/tmp/plain", S_IFREG | 0600, 0));
}
