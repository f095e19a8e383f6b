// Accepts by io_uring (IORING_OP_ACCEPT, io_uring_enter(2)), reads to the end by recv, and never
// closes. `uring accept|ignore N PORT`; it says "ready PORT PID". No liburing: system calls only.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUNCTION __attribute__((noinline, noclone)) static

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int ring;
static struct io_uring_params params;
static char *submissions, *completions;
static struct io_uring_sqe *entries;

static void *map(size_t length, off_t offset) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);
    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void set_up(void) {
    ring = syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0)
        fail("io_uring_setup");
    submissions = map(params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    completions = map(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
                      IORING_OFF_CQ_RING);
    entries = map(params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
}

FUNCTION int take_order(int listener) {
    unsigned *tail = (unsigned *)(submissions + params.sq_off.tail);
    unsigned mask = *(unsigned *)(submissions + params.sq_off.ring_mask);
    unsigned slot = *tail & mask;
    entries[slot] = (struct io_uring_sqe){.opcode = IORING_OP_ACCEPT, .fd = listener};
    ((unsigned *)(submissions + params.sq_off.array))[slot] = slot;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
        fail("io_uring_enter");
    unsigned *head = (unsigned *)(completions + params.cq_off.head);
    unsigned last = *(unsigned *)(completions + params.cq_off.ring_mask);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(completions + params.cq_off.cqes);
    int connection = done[*head & last].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    if (connection < 0) {
        fprintf(stderr, "IORING_OP_ACCEPT: %s\n", strerror(-connection));
        exit(1);
    }
    return connection;
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

FUNCTION void serve_orders(int listener, int count, int reads) {
    for (int i = 0; i < count; i++) {
        int connection = take_order(listener);
        if (reads)
            fetch(connection);
    }
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    set_up();
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 64) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("ready %d %d\n", ntohs(address.sin_port), getpid());
    fflush(stdout);
    serve_orders(listener, atoi(argv[2]), strcmp(argv[1], "ignore") != 0);
    for (;;)
        pause();
}
