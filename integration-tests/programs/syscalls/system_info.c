/* uname, sysinfo, getrandom, getcpu, getrusage, sched_getaffinity: shapes and errors. */
#include "facts.h"
#include <sched.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
int main(void) {
    begin();
    struct utsname u;
    say("uname", uname(&u));
    printf("%s %s\n", u.sysname, u.machine);
    say("uname wild", syscall(SYS_uname, WILD));
    struct sysinfo s;
    say("sysinfo", sysinfo(&s));
    fact("memory", s.totalram > 0 && s.mem_unit > 0);
    char b[600] = {0};
    say("getrandom", getrandom(b, 600, 0));
    int zero = 0;
    for (int i = 0; i < 600; i++) zero += b[i] == 0;
    fact("random", zero < 60);
    say("getrandom flag", getrandom(b, 1, 0x40));
    say("getrandom wild", syscall(SYS_getrandom, WILD, 1, 0));
    unsigned cpu = 9999, node = 9999;
    say("getcpu", syscall(SYS_getcpu, &cpu, &node, NULL));
    fact("filled", cpu != 9999 && node != 9999);
    struct rusage r;
    say("getrusage", getrusage(RUSAGE_SELF, &r));
    fact("resident", r.ru_maxrss > 0);
    say("getrusage who", syscall(SYS_getrusage, 99, &r));
    cpu_set_t set;
    ok("getaffinity", syscall(SYS_sched_getaffinity, 0, sizeof set, &set));
    fact("cpus", CPU_COUNT(&set) > 0);
    int shown = 0;
    for (int i = 0; i < 200; i++) {
        if (i % 20 == 0) sched_yield();
        syscall(SYS_getcpu, &cpu, NULL, NULL);
        shown += CPU_ISSET(cpu, &set) != 0;
    }
    fact("on one of them", shown);
    say("getcpu wild", syscall(SYS_getcpu, WILD, NULL, NULL));
    say("personality", syscall(SYS_personality, 0xffffffff));
    say("personality of Linux", syscall(SYS_personality, 0));
    say("getaffinity small", syscall(SYS_sched_getaffinity, 0, 1, &set));
    say("unknown", syscall(999));
}
