// Two coroutines yield at the same call site; a third ends through uc_link.
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static ucontext_t main_context, contexts[3];
static int current;

static void yield(int value) {
    printf("%d yields %d\n", current, value);
    swapcontext(&contexts[current], &main_context);
}

static void body(int id, int rounds) {
    for (int k = 0; k < rounds; k++) yield(id * 10 + k);
    printf("%d done\n", id);
}

int main(void) {
    for (int i = 0; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = malloc(65536);
        contexts[i].uc_stack.ss_size = 65536;
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], (void (*)(void))body, 2, i, i + 1);
    }
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < 3; i++) {
            if (round > i + 1) continue;
            current = i;
            swapcontext(&main_context, &contexts[i]);
        }
    puts("end");
}
