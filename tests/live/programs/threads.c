// Three threads that wait for data, and one that waits for its standard input, or with an argument
// never waits. Without frame pointers (see stacks.rs).
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

static int ends[2];

__attribute__((noinline)) long waits_for_data(int fd) {
    char byte[300];
    long n = recv(fd, byte, sizeof byte, 0); // here
    return n + byte[0];
}

__attribute__((noinline)) long serves(int fd) {
    return waits_for_data(fd) * 3 + 1; // and here
}

static void *worker(void *unused) { return (void *)serves(ends[0]); }

__attribute__((noinline)) int spins(volatile int *on) {
    while (*on)
        ;
    return *on + 1;
}

int main(int argc, char **argv) {
    pthread_t thread;
    volatile int on = argc > 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
    for (int i = 0; i < 3; i++) pthread_create(&thread, 0, worker, 0);
    if (on) return spins(&on);
    return getchar() == 'q' ? 7 : 8;
}
