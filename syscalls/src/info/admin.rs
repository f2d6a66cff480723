//! Host administration, kernel interfaces that run code or see other processes, and numbers Linux itself never answered.
//!
//! Owns only refusals (07, S24). The fact a newcomer gets wrong: the errno is what an unprivileged process sees natively, so programs behave.

use crate::pass::refused;

refused! {
    103 "syslog" EPERM "the host's kernel log";
    134 "uselib" ENOSYS "obsolete";
    153 "vhangup" EPERM "host administration";
    156 "_sysctl" ENOSYS "removed from Linux";
    169 "reboot" EPERM "host administration";
    170 "sethostname" EPERM "the container's name is fixed";
    171 "setdomainname" EPERM "the container's name is fixed";
    172 "iopl" EPERM "host hardware";
    173 "ioperm" EPERM "host hardware";
    174 "create_module" ENOSYS "removed from Linux";
    175 "init_module" EPERM "host administration";
    176 "delete_module" EPERM "host administration";
    177 "get_kernel_syms" ENOSYS "removed from Linux";
    178 "query_module" ENOSYS "removed from Linux";
    180 "nfsservctl" ENOSYS "removed from Linux";
    181 "getpmsg" ENOSYS "never implemented by Linux";
    182 "putpmsg" ENOSYS "never implemented by Linux";
    183 "afs_syscall" ENOSYS "never implemented by Linux";
    184 "tuxcall" ENOSYS "never implemented by Linux";
    185 "security" ENOSYS "never implemented by Linux";
    216 "remap_file_pages" ENOSYS "obsolete; use mmap";
    219 "restart_syscall" EINTR "made by the kernel itself, never by programs";
    236 "vserver" ENOSYS "never implemented by Linux";
    237 "mbind" ENOSYS "memory is not bound to nodes";
    238 "set_mempolicy" ENOSYS "memory is not bound to nodes";
    239 "get_mempolicy" ENOSYS "memory is not bound to nodes";
    246 "kexec_load" EPERM "host administration";
    248 "add_key" EPERM "kernel keyrings are not namespaced";
    249 "request_key" EPERM "kernel keyrings are not namespaced";
    250 "keyctl" EPERM "kernel keyrings are not namespaced";
    256 "migrate_pages" ENOSYS "memory is not bound to nodes";
    279 "move_pages" ENOSYS "memory is not bound to nodes";
    298 "perf_event_open" EPERM "sees the host";
    312 "kcmp" EPERM "compares kernel objects";
    313 "finit_module" EPERM "host administration";
    317 "seccomp" ENOSYS "the allow-list of the program is its filter";
    320 "kexec_file_load" EPERM "host administration";
    321 "bpf" EPERM "runs code in the host kernel";
    323 "userfaultfd" EPERM "page faults are the runtime's";
    329 "pkey_mprotect" ENOSYS "protection keys are not presented by cpuid";
    330 "pkey_alloc" ENOSYS "protection keys are not presented by cpuid";
    331 "pkey_free" ENOSYS "protection keys are not presented by cpuid";
    444 "landlock_create_ruleset" ENOTSUP "the container has its own ruleset";
    445 "landlock_add_rule" ENOTSUP "the container has its own ruleset";
    446 "landlock_restrict_self" ENOTSUP "the container has its own ruleset";
    447 "memfd_secret" ENOSYS "refused by default";
    450 "set_mempolicy_home_node" ENOSYS "memory is not bound to nodes";
    453 "map_shadow_stack" ENOSYS "shadow stacks are not presented by cpuid";
    454 "futex_wake" ENOSYS "use futex";
    455 "futex_wait" ENOSYS "use futex";
    456 "futex_requeue" ENOSYS "use futex";
    459 "lsm_get_self_attr" ENOTSUP "the container's labels are fixed";
    460 "lsm_set_self_attr" ENOTSUP "the container's labels are fixed";
    461 "lsm_list_modules" ENOTSUP "sees the host";
    462 "mseal" ENOSYS "mappings are not sealed";
}
