// A dispatcher accepts a connection, hands its descriptor to a worker process over a unix socket,
// and closes its own. The worker reads to the end and never closes. `passing accept N PORT`; it
// says "ready PORT PID" of the dispatcher, then "worker PID".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUNCTION __attribute__((noinline, noclone)) static

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

FUNCTION int take_order(int listener) {
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0)
        fail("accept4");
    return connection;
}

FUNCTION void hand_over(int channel, int connection) {
    union control control = {0};
    char byte = 'o';
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &connection, sizeof connection);
    if (sendmsg(channel, &message, 0) != 1)
        fail("sendmsg");
    close(connection);
}

FUNCTION void dispatch_orders(int listener, int channel) {
    for (;;)
        hand_over(channel, take_order(listener));
}

FUNCTION int receive_order(int channel) {
    union control control = {0};
    char byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    if (recvmsg(channel, &message, 0) != 1)
        exit(0);
    int connection;
    memcpy(&connection, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof connection);
    return connection;
}

FUNCTION void pack_order(int connection) {
    char bytes[256];
    ssize_t length;
    do
        length = read(connection, bytes, sizeof bytes);
    while (length > 0);
    if (length < 0)
        fail("read");
}

FUNCTION void pack_orders(int channel) {
    for (;;)
        pack_order(receive_order(channel));
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int channels[2];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, channels) < 0)
        fail("socketpair");
    pid_t worker = fork();
    if (worker == 0) {
        prctl(PR_SET_NAME, "packer");
        close(channels[0]);
        pack_orders(channels[1]);
    }
    prctl(PR_SET_NAME, "dispatcher");
    close(channels[1]);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 64) < 0)
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("ready %d %d\nworker %d\n", ntohs(address.sin_port), getpid(), worker);
    fflush(stdout);
    dispatch_orders(listener, channels[0]);
}
