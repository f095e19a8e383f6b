// A shop that never closes. `orders accept|ignore|connect N PORT`:
//   accept   takes N connections on 127.0.0.1:PORT and reads each to its end, in another thread
//   ignore   takes them and never reads
//   connect  opens N connections to 127.0.0.1:PORT and reads each to its end, in another thread
// It says "ready PORT PID" when its socket is there, or its connections are, and then stays.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Functions stay functions, as they would across files of a larger program.
#define FUNCTION __attribute__((noinline, noclone)) static

static int handed[2];
static int count;
static int reads;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

FUNCTION int take_order(int listener) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0)
        fail("accept");
    return connection;
}

FUNCTION void serve_orders(int listener) {
    for (int i = 0; i < count; i++) {
        int connection = take_order(listener);
        if (reads && write(handed[1], &connection, sizeof connection) < 0)
            fail("write");
    }
    for (;;)
        pause();
}

FUNCTION int dial_supplier(const struct sockaddr_in *to) {
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (const struct sockaddr *)to, sizeof *to) < 0)
        fail("connect");
    return connection;
}

FUNCTION void dial_suppliers(const struct sockaddr_in *to) {
    for (int i = 0; i < count; i++) {
        int connection = dial_supplier(to);
        if (write(handed[1], &connection, sizeof connection) < 0)
            fail("write");
    }
}

FUNCTION void fetch(int connection) {
    char bytes[256];
    ssize_t length;
    do
        length = recv(connection, bytes, sizeof bytes, 0);
    while (length > 0);
    if (length < 0)
        fail("recv");
}

// Called by the thread itself: it has its name before it does anything.
static void name(const char *name) {
    pthread_setname_np(pthread_self(), name);
}

FUNCTION void *crawl(void *unused) {
    int connection;
    name("crawler");
    while (read(handed[0], &connection, sizeof connection) == sizeof connection)
        fetch(connection);
    return unused;
}

FUNCTION void *clerk(void *listener) {
    name("orders");
    serve_orders(*(int *)listener);
    return NULL;
}

FUNCTION void *dialer(void *to) {
    name("dialer");
    dial_suppliers(to);
    return NULL;
}

static pthread_t start(void *(*function)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, argument))
        fail("pthread_create");
    return thread;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    count = atoi(argv[2]);
    reads = strcmp(argv[1], "ignore") != 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (pipe(handed) < 0)
        fail("pipe");
    start(crawl, NULL);
    pthread_t thread;
    if (strcmp(argv[1], "connect") == 0) {
        thread = start(dialer, &address);
        pthread_join(thread, NULL);
    } else {
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        socklen_t length = sizeof address;
        if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 64) < 0)
            fail("listen");
        getsockname(listener, (struct sockaddr *)&address, &length);
        thread = start(clerk, &listener);
    }
    printf("ready %d %d\n", ntohs(address.sin_port), getpid());
    fflush(stdout);
    for (;;)
        pause();
}
