// dlopen, dlsym and dlclose from a second thread; the function works in both threads while bound.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static double (*cosine)(double);

static void *opener(void *arg) {
    void *h = dlopen("libm.so.6", RTLD_NOW);
    if (!h) {
        printf("dlopen: %s\n", dlerror());
        return NULL;
    }
    cosine = (double (*)(double))dlsym(h, "cos");
    printf("thread: %.17g\n", cosine(1.0));
    return h;
}

int main(void) {
    pthread_t t;
    void *h;
    pthread_create(&t, NULL, opener, NULL);
    pthread_join(t, &h);
    if (!h) return 1;
    printf("main: %.17g\n", cosine(0.5));
    printf("dlclose: %d\n", dlclose(h));
    printf("missing: %d\n", dlopen("libnothing.so.9", RTLD_NOW) != NULL);
}
