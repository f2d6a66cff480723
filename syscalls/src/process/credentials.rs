//! Credentials, process groups, capabilities: the kernel's own, pointers translated.
//!
//! The fact a newcomer gets wrong: set*id acts on one host thread only, and that is right: the guest's C library does the rest itself.

use crate::pass::passes;

passes! {
    39 "getpid" [] "" |_, _| [0; 0];
    110 "getppid" [] "" |_, _| [0; 0];
    102 "getuid" [] "" |_, _| [0; 0];
    104 "getgid" [] "" |_, _| [0; 0];
    107 "geteuid" [] "" |_, _| [0; 0];
    108 "getegid" [] "" |_, _| [0; 0];
    105 "setuid" [Int] "" |_, a| [a[0]];
    106 "setgid" [Int] "" |_, a| [a[0]];
    113 "setreuid" [Int Int] "" |_, a| [a[0], a[1]];
    114 "setregid" [Int Int] "" |_, a| [a[0], a[1]];
    115 "getgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    116 "setgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    117 "setresuid" [Int Int Int] "" |_, a| [a[0], a[1], a[2]];
    118 "getresuid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    119 "setresgid" [Int Int Int] "" |_, a| [a[0], a[1], a[2]];
    120 "getresgid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    122 "setfsuid" [Int] "" |_, a| [a[0]];
    123 "setfsgid" [Int] "" |_, a| [a[0]];
    109 "setpgid" [Pid Pid] "" |_, a| [a[0], a[1]];
    111 "getpgrp" [] "" |_, _| [0; 0];
    112 "setsid" [] "" |_, _| [0; 0];
    121 "getpgid" [Pid] "" |_, a| [a[0]];
    124 "getsid" [Pid] "" |_, a| [a[0]];
    125 "capget" [Ptr Ptr] "" |t, a| [t.ptr(a[0], 8), t.ptr(a[1], 24)];
    126 "capset" [Ptr Ptr] "" |t, a| [t.ptr(a[0], 8), t.ptr(a[1], 24)];
}
