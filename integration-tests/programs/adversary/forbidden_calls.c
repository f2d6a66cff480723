/* Calls that led out of containers, or around their filters, each with arguments that would do something: io_uring, bpf, userfaultfd, keys, handles (the "shocker" exploit), perf, kexec, fanotify, ptrace, other processes'
 * memory and descriptors, sockets of other families. Each must be refused, and be in the audit log. */
#include "attack.h"
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ptrace.h>
static void attack(void) {
    /* No such thing here, as on older kernels: no offence, not audited. */
    char ring[256] = {0}, buffer[64];
    refused("io_uring_setup", syscall(SYS_io_uring_setup, 4, ring));
    refused("io_uring_enter", syscall(SYS_io_uring_enter, 0, 1, 0, 0, NULL, 0));
    refused("io_setup", syscall(SYS_io_setup, 1, ring));
    pid_t child = MUST(fork());
    if (child == 0) { pause(); _exit(0); }
    struct iovec v = {buffer, sizeof buffer};
    forbidden("ptrace traceme", syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
    forbidden("ptrace attach", syscall(SYS_ptrace, PTRACE_ATTACH, child, 0, 0));
    forbidden("ptrace seize", syscall(SYS_ptrace, PTRACE_SEIZE, child, 0, 0));
    forbidden("process_vm_readv", syscall(SYS_process_vm_readv, child, &v, 1, &v, 1, 0));
    forbidden("process_vm_writev", syscall(SYS_process_vm_writev, child, &v, 1, &v, 1, 0));
    int pidfd = syscall(SYS_pidfd_open, child, 0);
    forbidden("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    forbidden("process_madvise", syscall(SYS_process_madvise, pidfd, &v, 1, MADV_COLD, 0));
    forbidden("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, buffer, O_RDONLY));
    forbidden("fanotify_init", syscall(SYS_fanotify_init, 0, O_RDONLY));
    forbidden("chroot", chroot("/tmp"));
    forbidden("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
    forbidden("setns", syscall(SYS_setns, pidfd, CLONE_NEWNS));
    union bpf_attr b = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    refused("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &b, sizeof b));
    struct perf_event_attr p = {.size = sizeof p, .type = PERF_TYPE_SOFTWARE, .exclude_kernel = 1};
    refused("perf_event_open", syscall(SYS_perf_event_open, &p, 0, -1, -1, 0));
    refused("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC | 1));
    refused("keyctl", syscall(SYS_keyctl, 1 /* join a session keyring */, NULL));
    refused("add_key", syscall(SYS_add_key, "user", "name", "x", 1, -3));
    refused("kcmp", syscall(SYS_kcmp, getpid(), child, 0, 0, 0));
    refused("seccomp", syscall(SYS_seccomp, 1, 8 /* NEW_LISTENER */, buffer));
    refused("memfd_secret", syscall(447, O_CLOEXEC));
    refused("modify_ldt", syscall(SYS_modify_ldt, 1, buffer, 16));
    refused("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    refused("init_module", syscall(SYS_init_module, buffer, 64, ""));
    refused("finit_module", syscall(SYS_finit_module, 0, "", 0));
    refused("iopl", syscall(SYS_iopl, 3));
    refused("vmsplice", syscall(SYS_vmsplice, 1, &v, 1, 0));
    refused("syslog", syscall(SYS_syslog, 3, buffer, 64));
    refused("clock_settime", syscall(SYS_clock_settime, 0, &(struct timespec){1, 0}));
    refused("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL));
    const int families[] = {AF_PACKET, AF_ALG, AF_VSOCK, AF_KEY, AF_BLUETOOTH, AF_TIPC, AF_XDP, AF_RDS, AF_CAN};
    for (int i = 0; i < 9; i++) for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) refused("socket", socket(families[i], type | SOCK_CLOEXEC, 0));
    refused("netfilter socket", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 12));
    refused("audit socket", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 9));
    kill(child, SIGKILL);
    MUST(waitpid(child, NULL, 0));
}
static void twin(void) {
    int pair[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    int pidfd = MUST(syscall(SYS_pidfd_open, getpid(), 0));
    MUST(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
    MUST(syscall(SYS_eventfd2, 0, O_CLOEXEC));
}
