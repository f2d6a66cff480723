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
    236 "vserver" ENOSYS "never implemented by Linux";
    246 "kexec_load" EPERM "host administration";
    248 "add_key" EPERM "kernel keyrings are not namespaced";
    249 "request_key" EPERM "kernel keyrings are not namespaced";
    250 "keyctl" EPERM "kernel keyrings are not namespaced";
    298 "perf_event_open" EPERM "sees the host";
    312 "kcmp" EPERM "compares kernel objects";
    313 "finit_module" EPERM "host administration";
    320 "kexec_file_load" EPERM "host administration";
    321 "bpf" EPERM "runs code in the host kernel";
    444 "landlock_create_ruleset" ENOTSUP "the container has its own ruleset";
    445 "landlock_add_rule" ENOTSUP "the container has its own ruleset";
    446 "landlock_restrict_self" ENOTSUP "the container has its own ruleset";
    459 "lsm_get_self_attr" ENOTSUP "the container's labels are fixed";
    460 "lsm_set_self_attr" ENOTSUP "the container's labels are fixed";
    461 "lsm_list_modules" ENOTSUP "sees the host";
}
