/* Names, limits, credentials, ids, prctl: what a task knows of itself. */
#include "facts.h"
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/personality.h>
#include <sched.h>
int main(void) {
    begin();
    char name[17] = {0};
    say("set name", prctl(PR_SET_NAME, "a-name-that-is-much-too-long"));
    prctl(PR_GET_NAME, name);
    puts(name);
    say("dumpable", prctl(PR_SET_DUMPABLE, 1)); say("dumpable", prctl(PR_GET_DUMPABLE)); say("dumpable", prctl(PR_SET_DUMPABLE, 7));
    say("unknown", prctl(123456));
    int sig = -1;
    say("death signal", prctl(PR_SET_PDEATHSIG, SIGHUP)); say("get", prctl(PR_GET_PDEATHSIG, &sig)); fact("sig", sig);
    struct rlimit l;
    say("stack", getrlimit(RLIMIT_STACK, &l)); fact("soft", l.rlim_cur);
    l.rlim_cur = 1 << 20;
    say("lower", setrlimit(RLIMIT_STACK, &l)); getrlimit(RLIMIT_STACK, &l); fact("soft", l.rlim_cur);
    struct rlimit core = {1000, 5000};
    say("core", setrlimit(RLIMIT_CORE, &core)); getrlimit(RLIMIT_CORE, &l); fact("soft", l.rlim_cur); fact("hard", l.rlim_max);
    struct rlimit wrong = {10, 5};
    say("soft above hard", setrlimit(RLIMIT_DATA, &wrong)); say("no such", getrlimit(99, &l)); say("wild", getrlimit(RLIMIT_AS, WILD));
    say("nowhere", syscall(SYS_getrlimit, RLIMIT_NOFILE, NULL)); say("no such, nowhere", syscall(SYS_getrlimit, 99, NULL));
    getrlimit(RLIMIT_NOFILE, &l); l.rlim_cur = 20; setrlimit(RLIMIT_NOFILE, &l);
    fact("dup beyond", dup2(0, 25) == -1 ? errno : 0);
    fact("thread is process", getpid() == syscall(SYS_gettid));
    fact("tid address", syscall(SYS_set_tid_address, WILD) == getpid());
    say("robust", syscall(SYS_set_robust_list, NULL, 24)); say("robust size", syscall(SYS_set_robust_list, NULL, 23));
    say("personality", personality(0xffffffff));
    say("yield", sched_yield()); say("policy", sched_getscheduler(0)); say("max", sched_get_priority_max(SCHED_FIFO));
    say("nice", getpriority(PRIO_PROCESS, 0)); say("nice", setpriority(PRIO_PROCESS, 0, 3)); say("nice", getpriority(PRIO_PROCESS, 0));
    uid_t r, e, s;
    say("getresuid", getresuid(&r, &e, &s)); fact("same", r == e && e == s && r == getuid());
    say("getresuid wild", syscall(SYS_getresuid, WILD, WILD, WILD));
    say("futex", syscall(SYS_futex, &sig, 0 /* WAIT */, sig + 1, NULL)); say("wake", syscall(SYS_futex, &sig, 1, 1)); say("futex odd", syscall(SYS_futex, (char *)&sig + 1, 1, 1));
    struct timespec ms = {0, 1000000};
    say("timed", syscall(SYS_futex, &sig, 0, sig, &ms));
    say("unknown syscall", syscall(1000));
}
