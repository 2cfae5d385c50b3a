/* HTTP/1 over every way of moving bytes: ways [--after FILE] NAME... Each way has a connection of its own between two processes of this
   program, with several exchanges on it. Heads are of one size, so that whoever receives knows what to ask for. Prints
   for each exchange: `exchange WAY PATH STATUS CLIENT-ADDRESS CLIENT-PORT SERVER-ADDRESS SERVER-PORT`, for each way
   `moved WAY BYTES` (both directions, once), and `absent WAY` for what this kernel does not have. With --after it prints
   `connected` for each connection, and waits for that file before it uses it. The name `refused`, which must be the
   first, is for connections that fail.
   Built by the test: cc -pthread ways.c uring.c */

#define _GNU_SOURCE
#include "ways.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEAD = 256, LARGEST = 300000, MESSAGES = 40 };

static int disturbed; /* calls that a signal, a timeout or a full buffer has ended early */
static const char *after;
static char scratch[LARGEST + HEAD];

void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

#define TRY(call) ({ long result_ = (long)(call); if (result_ < 0) fail(#call); result_; })

/* ---- sending ---- */

static ssize_t by_write(int fd, char *at, size_t n) { return write(fd, at, n); }
static ssize_t by_send(int fd, char *at, size_t n) { return send(fd, at, n, MSG_NOSIGNAL); }
static ssize_t by_sendto(int fd, char *at, size_t n) { return sendto(fd, at, n, 0, NULL, 0); }

/* At most `pieces` buffers, with empty ones at the beginning and in the middle. */
static int cut(struct iovec *vector, char *at, size_t n, int pieces) {
    size_t each = n / (pieces - 2) + 1;
    for (int i = 0; i < pieces; i++) {
        size_t some = i == 0 || i == pieces / 2 ? 0 : n < each ? n : each;
        vector[i] = (struct iovec){.iov_base = at, .iov_len = some};
        at += some;
        n -= some;
    }
    return pieces;
}

static ssize_t by_writev(int fd, char *at, size_t n) {
    struct iovec vector[4];
    return writev(fd, vector, cut(vector, at, n, 4));
}
static ssize_t by_many_buffers(int fd, char *at, size_t n) {
    struct iovec vector[20];
    return writev(fd, vector, cut(vector, at, n, 20));
}
static ssize_t by_pwritev2(int fd, char *at, size_t n) {
    struct iovec vector[4];
    return pwritev2(fd, vector, cut(vector, at, n, 4), -1, 0);
}
static ssize_t by_sendmsg(int fd, char *at, size_t n) {
    struct iovec vector[4];
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = cut(vector, at, n, 4)};
    return sendmsg(fd, &message, 0);
}

/* `count` messages of two buffers each; the first message begins where `at` does. */
static ssize_t several(int fd, char *at, size_t n, int count, int sends, int flags) {
    struct mmsghdr messages[MESSAGES] = {0};
    struct iovec vectors[MESSAGES][2];
    size_t each = n / count + 1, left = n;
    int used = 0;
    for (; used < count && left; used++) {
        size_t some = left < each ? left : each;
        vectors[used][0] = (struct iovec){at, some - some / 3};
        vectors[used][1] = (struct iovec){at + some - some / 3, some / 3};
        messages[used].msg_hdr.msg_iov = vectors[used];
        messages[used].msg_hdr.msg_iovlen = 2;
        at += some;
        left -= some;
    }
    int done = sends ? sendmmsg(fd, messages, used, flags) : recvmmsg(fd, messages, used, flags, NULL);
    ssize_t sum = 0;
    for (int i = 0; i < done; i++)
        sum += messages[i].msg_len;
    /* A short message in the middle leaves a hole in the buffer: what follows belongs together nonetheless. */
    char *to = (char *)vectors[0][0].iov_base;
    for (int i = 0; !sends && i < done; i++) {
        size_t length = messages[i].msg_len;
        memmove(to, vectors[i][0].iov_base, length);
        to += length;
    }
    return done < 0 ? -1 : sum;
}
static ssize_t by_sendmmsg(int fd, char *at, size_t n) { return several(fd, at, n, 3, 1, 0); }
static ssize_t by_sendmmsg_many(int fd, char *at, size_t n) { return several(fd, at, n, MESSAGES, 1, 0); }

static int file_with(char *at, size_t n) {
    int file = TRY(memfd_create("body", 0));
    TRY(pwrite(file, at, n, 0));
    return file;
}
static ssize_t by_sendfile(int fd, char *at, size_t n) {
    int file = file_with(at, n);
    off_t from = 0;
    ssize_t sent = sendfile(fd, file, &from, n);
    close(file);
    return sent;
}
static ssize_t by_splice(int fd, char *at, size_t n) {
    int ends[2], file = file_with(at, n);
    TRY(pipe(ends));
    off64_t from = 0;
    ssize_t some = TRY(splice(file, &from, ends[1], NULL, n, 0)), sent = 0;
    while (sent < some)
        sent += TRY(splice(ends[0], NULL, fd, NULL, some - sent, 0));
    close(ends[0]);
    close(ends[1]);
    close(file);
    return sent;
}
static ssize_t by_zerocopy(int fd, char *at, size_t n) {
    int one = 1;
    TRY(setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof one));
    ssize_t sent = TRY(send(fd, at, n, MSG_ZEROCOPY));
    char control[128];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = fd};
    while (recvmsg(fd, &message, MSG_ERRQUEUE) < 0) {
        if (errno != EAGAIN)
            fail("the error queue");
        poll(&ready, 1, 1000);
    }
    return sent;
}
/* The error queue gives back what was sent, with the time at which it went. */
static ssize_t by_timestamped(int fd, char *at, size_t n) {
    int wanted = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    TRY(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &wanted, sizeof wanted));
    ssize_t sent = TRY(send(fd, at, n, 0));
    char control[512], back[4096];
    struct iovec vector = {back, sizeof back};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd ready = {.fd = fd};
    while (recvmsg(fd, &message, MSG_ERRQUEUE) < 0) {
        if (errno != EAGAIN)
            fail("the error queue");
        poll(&ready, 1, 1000);
    }
    return sent;
}
static ssize_t by_more(int fd, char *at, size_t n) {
    if (n < 2)
        return send(fd, at, n, 0);
    ssize_t first = TRY(send(fd, at, n / 2, MSG_MORE));
    return first + TRY(send(fd, at + first, n - first, 0));
}
static ssize_t by_dup(int fd, char *at, size_t n) {
    int other = TRY(fcntl(fd, F_DUPFD_CLOEXEC, 200));
    ssize_t sent = write(other, at, n);
    close(other);
    return sent;
}
/* The second call finds the buffer full; so does a signal or a timeout in the middle of a blocking one. */
static ssize_t by_pieces(int fd, char *at, size_t n) {
    ssize_t sent = send(fd, at, n, MSG_DONTWAIT);
    if (sent == (ssize_t)n)
        return sent;
    disturbed++;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    poll(&ready, 1, -1);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void nothing(int number) { (void)number; }

static void alarm_in(int microseconds) {
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value.tv_usec = microseconds};
    setitimer(ITIMER_REAL, &timer, NULL);
}
static ssize_t noted(ssize_t result, size_t wanted) {
    if (result == (ssize_t)wanted)
        return result;
    if (result < 0 && errno != EINTR && errno != EAGAIN)
        return result;
    disturbed++;
    return result < 0 ? 0 : result;
}
static ssize_t by_interrupted(int fd, char *at, size_t n) {
    alarm_in(3000);
    ssize_t result = noted(send(fd, at, n, 0), n);
    alarm_in(0);
    return result;
}
static ssize_t by_late(int fd, char *at, size_t n) {
    struct timeval soon = {.tv_usec = 3000};
    TRY(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    return noted(send(fd, at, n, 0), n);
}

/* ---- receiving ---- */

static ssize_t of_read(int fd, char *at, size_t n) { return read(fd, at, n); }
static ssize_t of_recv(int fd, char *at, size_t n) { return recv(fd, at, n, 0); }
static ssize_t of_recvfrom(int fd, char *at, size_t n) {
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    return recvfrom(fd, at, n, 0, (struct sockaddr *)&from, &size);
}
static ssize_t of_readv(int fd, char *at, size_t n) {
    struct iovec vector[4];
    return readv(fd, vector, cut(vector, at, n, 4));
}
static ssize_t of_many_buffers(int fd, char *at, size_t n) {
    struct iovec vector[20];
    return readv(fd, vector, cut(vector, at, n, 20));
}
static ssize_t of_preadv2(int fd, char *at, size_t n) {
    struct iovec vector[4];
    return preadv2(fd, vector, cut(vector, at, n, 4), -1, 0);
}
static ssize_t of_recvmsg(int fd, char *at, size_t n) {
    struct iovec vector[4];
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = cut(vector, at, n, 4)};
    return recvmsg(fd, &message, 0);
}
static ssize_t of_recvmmsg(int fd, char *at, size_t n) { return several(fd, at, n, 3, 0, MSG_WAITFORONE); }
static ssize_t of_recvmmsg_many(int fd, char *at, size_t n) {
    return several(fd, at, n, MESSAGES, 0, MSG_WAITALL);
}
static ssize_t of_splice(int fd, char *at, size_t n) {
    int ends[2];
    TRY(pipe(ends));
    ssize_t some = splice(fd, NULL, ends[1], NULL, n, 0), taken = 0;
    while (taken < some)
        taken += TRY(read(ends[0], at + taken, some - taken));
    close(ends[0]);
    close(ends[1]);
    return some;
}
/* Looks twice, then takes a part of it. */
static ssize_t of_peek(int fd, char *at, size_t n) {
    if (TRY(recv(fd, at, n, MSG_PEEK)) == 0)
        return 0;
    struct iovec vector[4];
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = cut(vector, at, n, 4)};
    ssize_t there = TRY(recvmsg(fd, &message, MSG_PEEK));
    return recv(fd, at, there > 3 ? there - there / 3 : there, 0);
}
static ssize_t of_waitall(int fd, char *at, size_t n) { return recv(fd, at, n, MSG_WAITALL); }
static ssize_t of_trunc(int fd, char *at, size_t n) {
    memset(at, '?', n < 16 ? n : 16);
    return recv(fd, at, n, MSG_TRUNC);
}
static ssize_t of_nonblocking(int fd, char *at, size_t n) {
    ssize_t got = recv(fd, at, n, MSG_DONTWAIT);
    if (got >= 0 || errno != EAGAIN)
        return got;
    disturbed++;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    poll(&ready, 1, -1);
    return -2;
}
static ssize_t again(ssize_t got) {
    if (got >= 0 || (errno != EINTR && errno != EAGAIN))
        return got;
    disturbed++;
    return -2;
}
static ssize_t of_interrupted(int fd, char *at, size_t n) {
    alarm_in(3000);
    ssize_t got = again(recv(fd, at, n, MSG_WAITALL));
    alarm_in(0);
    return got;
}
static ssize_t of_late(int fd, char *at, size_t n) {
    struct timeval soon = {.tv_usec = 3000};
    TRY(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    return again(recv(fd, at, n, 0));
}
static ssize_t of_dup(int fd, char *at, size_t n) {
    int other = TRY(dup(fd));
    ssize_t got = read(other, at, n);
    close(other);
    return got;
}

/* ---- the ways ---- */

enum {
    SLOW = 1,          /* small buffers, and whoever receives takes its time */
    V6 = 2,            /* from ::1 to ::1 */
    MAPPED = 4,        /* from IPv4 to a server that listens on IPv6 */
    UNBLOCKED = 8,     /* connect returns before it is done */
    FAST = 16,         /* the first request goes with the SYN */
    WAITS = 32,        /* the request is there before accept */
    CHILD = 64,        /* a child of the server that has inherited the connection answers */
    PASSED = 128,      /* a process that has been sent the connection over a Unix socket answers */
    HALF = 256,        /* the client shuts its side down after the last request, the server answers up to the end */
    RESET = 512,       /* the client closes with a reset */
    TWICE = 1024,      /* client and server each have the connection in two processes that take turns */
    APART = 2048,      /* in a network namespace of its own */
};

static const struct way {
    const char *name;
    mover *sends_head, *sends_body, *receives_head, *receives_body;
    int how;
} WAYS[] = {
    {"write-read", by_write, by_write, of_read, of_read, 0},
    {"writev-readv", by_writev, by_writev, of_readv, of_readv, 0},
    {"many-buffers", by_many_buffers, by_many_buffers, of_many_buffers, of_many_buffers, 0},
    {"pwritev2-preadv2", by_pwritev2, by_pwritev2, of_preadv2, of_preadv2, 0},
    {"send-recv", by_send, by_send, of_recv, of_recv, 0},
    {"sendto-recvfrom", by_sendto, by_sendto, of_recvfrom, of_recvfrom, 0},
    {"sendmsg-recvmsg", by_sendmsg, by_sendmsg, of_recvmsg, of_recvmsg, 0},
    {"sendmmsg-recvmmsg", by_sendmmsg, by_sendmmsg, of_recvmmsg, of_recvmmsg, 0},
    {"sendmmsg-many", by_sendmmsg_many, by_sendmmsg_many, of_recv, of_recv, 0},
    {"recvmmsg-many", by_send, by_send, of_recvmmsg_many, of_recvmmsg_many, 0},
    {"sendfile", by_write, by_sendfile, of_read, of_read, 0},
    {"sendfile-head", by_sendfile, by_sendfile, of_read, of_read, 0},
    {"splice-out", by_write, by_splice, of_read, of_read, 0},
    {"splice-in", by_write, by_write, of_read, of_splice, 0},
    {"zerocopy", by_zerocopy, by_zerocopy, of_read, of_read, 0},
    {"timestamped", by_timestamped, by_timestamped, of_read, of_read, 0},
    {"more", by_more, by_more, of_read, of_read, 0},
    {"dup", by_dup, by_dup, of_dup, of_dup, 0},
    {"pieces", by_pieces, by_pieces, of_nonblocking, of_nonblocking, SLOW},
    {"interrupted", by_interrupted, by_interrupted, of_interrupted, of_interrupted, SLOW},
    {"late", by_late, by_late, of_late, of_late, SLOW},
    {"peek", by_write, by_write, of_peek, of_peek, 0},
    {"waitall", by_write, by_write, of_waitall, of_waitall, 0},
    {"trunc", by_write, by_write, of_read, of_trunc, 0},
    {"v6", by_write, by_write, of_read, of_read, V6},
    {"v6-msg", by_sendmsg, by_sendmsg, of_recvmsg, of_recvmsg, V6},
    {"v6-sendfile", by_write, by_sendfile, of_read, of_read, V6},
    {"v6-peek", by_write, by_write, of_peek, of_peek, V6},
    {"mapped", by_write, by_write, of_read, of_read, MAPPED},
    {"unblocked", by_write, by_write, of_read, of_read, UNBLOCKED},
    {"unblocked-peek", by_write, by_write, of_peek, of_peek, UNBLOCKED},
    {"fast-open", by_write, by_write, of_read, of_read, FAST | APART},
    {"apart", by_write, by_write, of_read, of_read, APART},
    {"apart-v6", by_write, by_write, of_read, of_read, APART | V6},
    {"accept-queue", by_write, by_write, of_read, of_read, WAITS},
    {"inherited", by_write, by_write, of_read, of_read, CHILD},
    {"passed", by_write, by_write, of_read, of_read, PASSED},
    {"taking-turns", by_write, by_write, of_read, of_read, TWICE},
    {"half-close", by_write, by_write, of_read, of_read, HALF},
    {"reset", by_write, by_write, of_read, of_read, RESET},
    {"uring-send", uring_send, uring_send, of_read, of_read, 0},
    {"uring-write", uring_write, uring_write, of_read, of_read, 0},
    {"uring-writev", uring_writev, uring_writev, of_read, of_read, 0},
    {"uring-sendmsg", uring_sendmsg, uring_sendmsg, of_read, of_read, 0},
    {"uring-send-zc", uring_send_zc, uring_send_zc, of_read, of_read, 0},
    {"uring-worker", uring_send_worker, uring_send_worker, of_read, of_read, 0},
    {"uring-recv", by_write, by_write, uring_recv, uring_recv, 0},
    {"uring-read", by_write, by_write, uring_read, uring_read, 0},
    {"uring-recvmsg", by_write, by_write, uring_recvmsg, uring_recvmsg, 0},
    {"uring-multishot", by_write, by_write, uring_multishot, uring_multishot, 0},
    {"uring-body", by_write, by_write, of_read, uring_recv, 0},
};

/* ---- exchanges ---- */

/* Bodies of the requests and the responses; the last exchange closes. */
static const int UP[] = {0, 10, 20000, LARGEST, 1};
static const int DOWN[] = {3000, LARGEST, 0, 70000, 20};
enum { EXCHANGES = sizeof UP / sizeof *UP };

static void send_all(int fd, mover *by, char *at, size_t n) {
    while (n) {
        ssize_t some = TRY(by(fd, at, n));
        at += some;
        n -= some;
    }
}

static void take_all(int fd, mover *of, char *at, size_t n) {
    while (n) {
        ssize_t some = of(fd, at, n);
        if (some == -2)
            continue;
        if (TRY(some) == 0) {
            errno = ECONNRESET;
            fail("the connection has ended early");
        }
        at += some;
        n -= some;
    }
}

static void send_message(int fd, const struct way *way, const char *first, int size) {
    char head[HEAD + 1];
    int used = snprintf(head, sizeof head, "%s\r\nHost: ways\r\nContent-Length: %d\r\nX-Rest: ", first, size);
    memset(head + used, 'r', HEAD - used);
    memcpy(head + HEAD - 4, "\r\n\r\n", 4);
    memset(scratch, 'b', size);
    if (way->sends_head == way->sends_body && !(way->how & SLOW)) {
        memmove(scratch + HEAD, scratch, size);
        memcpy(scratch, head, HEAD);
        send_all(fd, way->sends_head, scratch, HEAD + size);
        return;
    }
    send_all(fd, way->sends_head, head, HEAD);
    send_all(fd, way->sends_body, scratch, size);
}

static void take_message(int fd, const struct way *way, int size) {
    take_all(fd, way->receives_head, scratch, HEAD);
    if (way->how & SLOW)
        usleep(20000);
    take_all(fd, way->receives_body, scratch, size);
}

static void ask(int fd, const struct way *way, int n, const char *facts) {
    char first[128];
    if (way->how & SLOW)
        usleep(20000);
    snprintf(first, sizeof first, "POST /%s/%d HTTP/1.1", way->name, n);
    send_message(fd, way, first, UP[n]);
    if (way->how & HALF && n == EXCHANGES - 1)
        TRY(shutdown(fd, SHUT_WR));
    take_message(fd, way, DOWN[n]);
    printf("exchange %s /%s/%d %d %s\n", way->name, way->name, n, 200 + n, facts);
}

static void answer(int fd, const struct way *way, int n) {
    char first[128];
    take_message(fd, way, UP[n]);
    if (way->how & HALF && n == EXCHANGES - 1 && read(fd, first, sizeof first) != 0)
        fail("no end after the last request");
    if (way->how & SLOW)
        usleep(20000);
    snprintf(first, sizeof first, "HTTP/1.1 %d Fine", 200 + n);
    send_message(fd, way, first, DOWN[n]);
}

/* ---- connections ---- */

static void small_buffers(int fd, const struct way *way) {
    int size = 4096;
    if (way->how & SLOW) {
        TRY(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
        TRY(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    }
}

static void goodbye(int fd, const struct way *way) {
    struct linger at_once = {.l_onoff = 1};
    if (way->how & RESET)
        TRY(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    close(fd);
}

static int listener(const struct way *way, struct sockaddr_in6 *address) {
    int family = way->how & (V6 | MAPPED) ? AF_INET6 : AF_INET, backlog = 16;
    int fd = TRY(socket(family, SOCK_STREAM, 0));
    socklen_t size = sizeof *address;
    *address = (struct sockaddr_in6){.sin6_family = family};
    if (way->how & V6)
        address->sin6_addr = in6addr_loopback;
    if (family == AF_INET)
        ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    TRY(bind(fd, (struct sockaddr *)address, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof *address));
    small_buffers(fd, way);
    if (way->how & FAST)
        TRY(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &backlog, sizeof backlog));
    TRY(listen(fd, backlog));
    TRY(getsockname(fd, (struct sockaddr *)address, &size));
    if (way->how & MAPPED) {
        struct sockaddr_in plain = {.sin_family = AF_INET, .sin_port = address->sin6_port};
        plain.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        memcpy(address, &plain, sizeof plain);
    }
    return fd;
}

static void pass(int over, int fd) {
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    TRY(sendmsg(over, &message, 0));
}

static int passed(int over) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    TRY(recvmsg(over, &message, 0));
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void end_well(pid_t child) {
    int status;
    TRY(waitpid(child, &status, 0));
    if (status != 0)
        exit(1);
}

/* The exchanges from `from` on, every `step`th; of two processes that take turns each waits for the other's byte. */
static void answer_all(int fd, const struct way *way) {
    if (!(way->how & TWICE)) {
        for (int n = 0; n < EXCHANGES; n++)
            answer(fd, way, n);
        return;
    }
    for (int n = 0; n < EXCHANGES; n++) {
        pid_t child = n % 2 ? TRY(fork()) : 0;
        if (n % 2 && child) {
            end_well(child);
            continue;
        }
        answer(fd, way, n);
        if (n % 2)
            _exit(0);
    }
}

static void serve(int listening, const struct way *way, int client_is_ready) {
    char byte;
    if (way->how & WAITS)
        TRY(read(client_is_ready, &byte, 1));
    int ends[2], fd = -1;
    pid_t child = 0;
    if (way->how & PASSED) {
        TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        child = TRY(fork());
        if (child) {
            fd = TRY(accept(listening, NULL, NULL));
            pass(ends[0], fd);
        } else {
            fd = passed(ends[1]);
        }
    } else {
        fd = TRY(way->how & V6 ? accept4(listening, NULL, NULL, SOCK_CLOEXEC) : accept(listening, NULL, NULL));
    }
    if (way->how & CHILD)
        child = TRY(fork());
    if (!(way->how & (CHILD | PASSED)) || child == 0)
        answer_all(fd, way);
    if (child) {
        close(fd);
        end_well(child);
        return;
    }
    if (way->how & SLOW && disturbed == 0)
        fail("the server was never disturbed");
    if (way->how & RESET && (read(fd, &byte, 1) >= 0 || errno != ECONNRESET))
        fail("no reset");
    goodbye(fd, way);
}

/* Goes to a network namespace of its own, where TCP fast open needs no cookie. */
static void go_apart(void) {
    TRY(unshare(CLONE_NEWNET));
    int any = TRY(socket(AF_INET, SOCK_DGRAM, 0));
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    TRY(ioctl(any, SIOCSIFFLAGS, &loopback));
    close(any);
    int setting = TRY(open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY));
    TRY(write(setting, "1543", 4));
    close(setting);
}

static void assert_fast(int fd) {
    struct tcp_info facts;
    socklen_t size = sizeof facts;
    TRY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &facts, &size));
    if (!(facts.tcpi_options & TCPI_OPT_SYN_DATA))
        fail("the request did not go with the SYN");
}

static void converse(const struct way *way) {
    struct sockaddr_in6 address, own;
    char there[64], here[64], facts[160], first[128];
    int listening = listener(way, &address), ready[2], from = 0;
    socklen_t size = address.sin6_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof address;
    TRY(pipe(ready));
    fflush(stdout);
    pid_t server = TRY(fork());
    if (server == 0) {
        serve(listening, way, ready[0]);
        exit(0);
    }
    close(listening);
    int fd = TRY(socket(address.sin6_family, SOCK_STREAM | (way->how & UNBLOCKED ? SOCK_NONBLOCK : 0), 0));
    small_buffers(fd, way);
    if (way->how & FAST) {
        int one = 1;
        TRY(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one));
    }
    int connected = connect(fd, (struct sockaddr *)&address, size);
    if (way->how & UNBLOCKED) {
        struct pollfd done = {.fd = fd, .events = POLLOUT};
        if (connected == 0 || errno != EINPROGRESS)
            fail("the connection was there at once");
        poll(&done, 1, -1);
        TRY(fcntl(fd, F_SETFL, 0));
    } else if (connected) {
        fail("connect");
    }
    if (way->how & FAST) {
        snprintf(first, sizeof first, "POST /%s/0 HTTP/1.1", way->name);
        send_message(fd, way, first, UP[0]);
    }
    size = sizeof own;
    TRY(getsockname(fd, (struct sockaddr *)&own, &size));
    const void *at = own.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&own)->sin_addr : &own.sin6_addr;
    inet_ntop(own.sin6_family, at, here, sizeof here);
    at = own.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&address)->sin_addr : &address.sin6_addr;
    inet_ntop(own.sin6_family, at, there, sizeof there);
    snprintf(facts, sizeof facts, "%s %d %s %d", here, ntohs(own.sin6_port), there, ntohs(address.sin6_port));
    if (after) {
        printf("connected\n");
        fflush(stdout);
        while (access(after, F_OK))
            usleep(10000);
    }
    if (way->how & FAST) {
        take_message(fd, way, DOWN[0]);
        assert_fast(fd);
        printf("exchange %s /%s/0 200 %s\n", way->name, way->name, facts);
        from = 1;
    }
    for (int n = from; n < EXCHANGES; n++) {
        if (way->how & WAITS && n == 0) {
            /* The request waits in the queue with its connection. */
            snprintf(first, sizeof first, "POST /%s/0 HTTP/1.1", way->name);
            send_message(fd, way, first, UP[0]);
            TRY(write(ready[1], "", 1));
            take_message(fd, way, DOWN[0]);
            printf("exchange %s /%s/0 200 %s\n", way->name, way->name, facts);
            continue;
        }
        if (way->how & TWICE && n % 2 == 0) {
            fflush(stdout);
            pid_t child = TRY(fork());
            if (child) {
                end_well(child);
                continue;
            }
            ask(fd, way, n, facts);
            fflush(stdout);
            _exit(0);
        }
        ask(fd, way, n, facts);
    }
    if (way->how & SLOW && disturbed == 0)
        fail("the client was never disturbed");
    goodbye(fd, way);
    close(ready[0]);
    close(ready[1]);
    end_well(server);
    long moved = 0;
    for (int n = 0; n < EXCHANGES; n++)
        moved += 2 * HEAD + UP[n] + DOWN[n];
    printf("moved %s %ld\n", way->name, moved);
}

/* Connections to where nobody listens: blocking and not, of both families. */
static void be_refused(void) {
    int refused = 0;
    for (int i = 0; i < 4; i++) {
        struct way way = {.how = i & 1 ? V6 : 0};
        struct sockaddr_in6 address;
        close(listener(&way, &address));
        int fd = TRY(socket(address.sin6_family, SOCK_STREAM | (i & 2 ? SOCK_NONBLOCK : 0), 0)), error = 0;
        socklen_t size = sizeof error;
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            fail("somebody listens");
        error = errno;
        if (i & 2) {
            struct pollfd done = {.fd = fd, .events = POLLOUT};
            poll(&done, 1, -1);
            TRY(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
        }
        refused += error == ECONNREFUSED;
        close(fd);
    }
    printf("refused %d\n", refused);
}

int main(int count, char **names) {
    signal(SIGPIPE, SIG_IGN);
    if (count > 2 && strcmp(names[1], "--after") == 0) {
        after = names[2];
        names += 2;
        count -= 2;
    }
    if (count > 1 && strcmp(names[1], "refused") == 0)
        be_refused();
    for (unsigned long i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        const struct way *way = WAYS + i;
        int wanted = count == 1;
        for (int n = 1; n < count; n++)
            wanted |= strcmp(names[n], way->name) == 0;
        if (!wanted)
            continue;
        if (strncmp(way->name, "uring-", 6) == 0 && !uring_has(way->sends_body, way->receives_body)) {
            printf("absent %s\n", way->name);
            continue;
        }
        disturbed = 0;
        if (!(way->how & APART)) {
            converse(way);
            continue;
        }
        fflush(stdout);
        pid_t child = TRY(fork());
        if (child) {
            end_well(child);
            continue;
        }
        go_apart();
        converse(way);
        exit(0);
    }
    return 0;
}
