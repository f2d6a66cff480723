/* Thousands of refused execs while the audit log's disk is full for a part of them (the suite fills and frees it): each is in the log, or in the number of those that were lost. */
#include "attack.h"
static void attack(void) {
    printf("ready\n");
    struct stat s;
    long n = 0;
    while (stat("/out/done", &s) != 0) { no_program(CANARY, ASKS); n++; }
    note("%ld execs", n);
}
static void twin(void) {
    printf("ready\n");
    program(GOOD);
    for (struct stat s; stat("/out/done", &s) != 0;) usleep(1000);
}
