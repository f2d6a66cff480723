/* System V semaphores and message queues, POSIX message queues. */
#include "facts.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>
union semun { int val; struct semid_ds *buf; unsigned short *array; };
int main(void) {
    begin();
    int s = ok("semget", semget(IPC_PRIVATE, 3, 0600));
    unsigned short v[3] = {1, 2, 3}, w[4] = {9, 9, 9, 9};
    say("setall", semctl(s, 0, SETALL, (union semun){.array = v}));
    say("getall", semctl(s, 0, GETALL, (union semun){.array = w}));
    printf("%d %d %d %d\n", w[0], w[1], w[2], w[3]);
    say("getval", semctl(s, 1, GETVAL));
    say("setval", semctl(s, 1, SETVAL, (union semun){.val = 7}));
    struct sembuf op[2] = {{0, -1, 0}, {1, 3, 0}};
    say("semop", semop(s, op, 2));
    say("getval", semctl(s, 1, GETVAL));
    op[0].sem_flg = IPC_NOWAIT;
    say("semop would wait", semop(s, op, 1));
    op[0].sem_flg = 0;
    struct timespec ms = {0, 1000000};
    say("semtimedop", semtimedop(s, op, 1, &ms));
    struct semid_ds d;
    say("stat", semctl(s, 0, IPC_STAT, (union semun){.buf = &d}));
    fact("count", d.sem_nsems);
    say("unknown", semctl(s, 0, 99));
    struct seminfo si = {0};
    ok("info", semctl(0, 0, IPC_INFO, (union semun){.buf = (void *)&si}));
    fact("sets at most", si.semmni > 0);
    int last = ok("usage", semctl(0, 0, SEM_INFO, (union semun){.buf = (void *)&si})), found = 0;
    for (int i = 0; i <= last; i++) found += semctl(i, 0, SEM_STAT, (union semun){.buf = &d}) == s && d.sem_nsems == 3;
    for (int i = 0; i <= last; i++) found += semctl(i, 0, SEM_STAT_ANY, (union semun){.buf = &d}) == s && d.sem_nsems == 3;
    fact("found", found);
    say("info wild", semctl(0, 0, IPC_INFO, (union semun){.buf = WILD}));
    say("remove", semctl(s, 0, IPC_RMID));
    say("removed", semctl(s, 0, GETVAL));
    int q = ok("msgget", msgget(IPC_PRIVATE, 0600));
    struct { long type; char text[16]; } m = {5, "hello"}, g = {0};
    say("msgsnd", msgsnd(q, &m, 6, 0));
    say("msgrcv wrong type", msgrcv(q, &g, sizeof g.text, 6, IPC_NOWAIT));
    say("msgrcv small", msgrcv(q, &g, 2, 0, IPC_NOWAIT));
    say("msgrcv", msgrcv(q, &g, sizeof g.text, 0, IPC_NOWAIT));
    printf("%ld %s\n", g.type, g.text);
    m.type = 0;
    say("msgsnd type", msgsnd(q, &m, 6, 0));
    struct msqid_ds e;
    say("stat", msgctl(q, IPC_STAT, &e));
    fact("messages", e.msg_qnum);
    struct msginfo mi = {0};
    ok("info", msgctl(0, IPC_INFO, (struct msqid_ds *)&mi));
    fact("queues at most", mi.msgmni > 0);
    last = ok("usage", msgctl(0, MSG_INFO, (struct msqid_ds *)&mi)), found = 0;
    for (int i = 0; i <= last; i++) found += msgctl(i, MSG_STAT, &e) == q;
    for (int i = 0; i <= last; i++) found += msgctl(i, MSG_STAT_ANY, &e) == q;
    fact("found", found);
    say("remove", msgctl(q, IPC_RMID, NULL));
    struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32};
    mqd_t p = ok("mq_open", mq_open("/facts", O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &a));
    say("mq_send", mq_send(p, "one", 3, 1));
    say("mq_send", mq_send(p, "second", 6, 9));
    say("mq_send long", mq_send(p, (char *)&a, 33, 0));
    char b[32];
    unsigned prio;
    say("mq_receive", mq_receive(p, b, 32, &prio));
    fact("priority", prio);
    say("mq_receive small", mq_receive(p, b, 3, &prio));
    say("mq_getattr", mq_getattr(p, &a));
    fact("waiting", a.mq_curmsgs);
    say("mq_unlink", mq_unlink("/facts"));
    say("mq_unlink", mq_unlink("/facts"));
}
