/* Bytes moved by io_uring, by its three system calls alone: one operation at a time. */

#define _GNU_SOURCE
#include "ways.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int ring = -1;
static pid_t owner;
static struct io_uring_params facts;
static char *sq, *cq;
static struct io_uring_sqe *entries;
static unsigned long latest; /* operation */

/* A ring belongs to the process that has made it: a child makes its own. */
static void have_ring(void) {
    if (ring >= 0 && owner == getpid())
        return;
    owner = getpid();
    memset(&facts, 0, sizeof facts);
    ring = syscall(SYS_io_uring_setup, 8, &facts);
    if (ring < 0)
        fail("io_uring_setup");
    size_t size = facts.sq_off.array + facts.sq_entries * 4;
    sq = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    size = facts.cq_off.cqes + facts.cq_entries * sizeof(struct io_uring_cqe);
    cq = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
    size = facts.sq_entries * sizeof(struct io_uring_sqe);
    entries = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
        fail("mmap of a ring");
}

#define AT(ring, offset) ((unsigned *)((ring) + (offset)))

/* Returns its number. */
static unsigned long submit(struct io_uring_sqe *entry) {
    entry->user_data = ++latest;
    unsigned mask = *AT(sq, facts.sq_off.ring_mask), tail = *AT(sq, facts.sq_off.tail);
    entries[tail & mask] = *entry;
    AT(sq, facts.sq_off.array)[tail & mask] = tail & mask;
    __atomic_store_n(AT(sq, facts.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    while (syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0) < 0)
        if (errno != EINTR)
            fail("io_uring_enter");
    return latest;
}

struct completed {
    int res;
    unsigned flags;
};

/* The next completion of this operation; those of others are too late. */
static struct completed completion(unsigned long of) {
    for (;;) {
        unsigned head = *AT(cq, facts.cq_off.head);
        while (head == __atomic_load_n(AT(cq, facts.cq_off.tail), __ATOMIC_ACQUIRE))
            if (syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
                fail("io_uring_enter");
        struct io_uring_cqe *all = (struct io_uring_cqe *)(cq + facts.cq_off.cqes);
        struct io_uring_cqe *at = all + (head & *AT(cq, facts.cq_off.ring_mask));
        struct completed done = {at->res, at->flags};
        unsigned long number = at->user_data;
        __atomic_store_n(AT(cq, facts.cq_off.head), head + 1, __ATOMIC_RELEASE);
        if (number == of)
            return done;
    }
}

static ssize_t result(struct completed done) {
    if (done.res >= 0)
        return done.res;
    errno = -done.res;
    return -1;
}

static ssize_t one(int operation, int fd, void *at, size_t n, int flags) {
    have_ring();
    struct io_uring_sqe entry = {.opcode = operation, .fd = fd, .addr = (unsigned long)at, .len = n, .flags = flags};
    return result(completion(submit(&entry)));
}

ssize_t uring_send(int fd, char *at, size_t n) { return one(IORING_OP_SEND, fd, at, n, 0); }
ssize_t uring_write(int fd, char *at, size_t n) { return one(IORING_OP_WRITE, fd, at, n, 0); }
ssize_t uring_recv(int fd, char *at, size_t n) { return one(IORING_OP_RECV, fd, at, n, 0); }
ssize_t uring_read(int fd, char *at, size_t n) { return one(IORING_OP_READ, fd, at, n, 0); }
/* By a thread of the kernel that works for the process. */
ssize_t uring_send_worker(int fd, char *at, size_t n) { return one(IORING_OP_SEND, fd, at, n, IOSQE_ASYNC); }

ssize_t uring_writev(int fd, char *at, size_t n) {
    struct iovec vector[2] = {{at, n / 3}, {at + n / 3, n - n / 3}};
    return one(IORING_OP_WRITEV, fd, vector, 2, 0);
}
ssize_t uring_sendmsg(int fd, char *at, size_t n) {
    struct iovec vector[2] = {{at, n / 3}, {at + n / 3, n - n / 3}};
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = 2};
    return one(IORING_OP_SENDMSG, fd, &message, 1, 0);
}
ssize_t uring_recvmsg(int fd, char *at, size_t n) {
    struct iovec vector[2] = {{at, n / 3}, {at + n / 3, n - n / 3}};
    struct msghdr message = {.msg_iov = vector, .msg_iovlen = 2};
    return one(IORING_OP_RECVMSG, fd, &message, 1, 0);
}

/* Completes twice: when it is sent, and when the buffer is free again. */
ssize_t uring_send_zc(int fd, char *at, size_t n) {
    have_ring();
    struct io_uring_sqe entry = {.opcode = IORING_OP_SEND_ZC, .fd = fd, .addr = (unsigned long)at, .len = n};
    unsigned long number = submit(&entry);
    struct completed sent = completion(number);
    for (struct completed done = sent; done.flags & IORING_CQE_F_MORE;)
        done = completion(number);
    return result(sent);
}

/* One operation that completes for each piece that comes, into buffers that the kernel chooses from; it goes on when
   this returns, and is asked for its next piece then. */
ssize_t uring_multishot(int fd, char *at, size_t n) {
    enum { SIZE = 512, COUNT = 64 };
    static char *buffers;
    static int armed_on = -1, left_at, left;
    static pid_t armed_by;
    static unsigned left_id;
    static unsigned long armed;
    have_ring();
    if (armed_by != getpid()) {
        armed_by = getpid();
        armed_on = -1;
        left = 0;
        buffers = malloc(SIZE * COUNT);
        struct io_uring_sqe give = {
            .opcode = IORING_OP_PROVIDE_BUFFERS, .addr = (unsigned long)buffers, .len = SIZE, .fd = COUNT, .buf_group = 1};
        if (result(completion(submit(&give))) < 0)
            fail("buffers for a ring");
    }
    while (left == 0) {
        if (armed_on != fd) {
            struct io_uring_sqe entry = {.opcode = IORING_OP_RECV, .fd = fd, .ioprio = IORING_RECV_MULTISHOT,
                                         .flags = IOSQE_BUFFER_SELECT, .buf_group = 1};
            armed = submit(&entry);
            armed_on = fd;
        }
        struct completed done = completion(armed);
        if (!(done.flags & IORING_CQE_F_MORE))
            armed_on = -1;
        if (done.res == -ENOBUFS)
            continue;
        if (done.res <= 0)
            return result(done);
        left = done.res;
        left_at = 0;
        left_id = done.flags >> IORING_CQE_BUFFER_SHIFT;
    }
    size_t some = n < (size_t)left ? n : (size_t)left;
    memcpy(at, buffers + left_id * SIZE + left_at, some);
    left_at += some;
    left -= some;
    if (left == 0) {
        struct io_uring_sqe give = {.opcode = IORING_OP_PROVIDE_BUFFERS, .addr = (unsigned long)(buffers + left_id * SIZE),
                                    .len = SIZE, .fd = 1, .off = left_id, .buf_group = 1, .flags = IOSQE_CQE_SKIP_SUCCESS};
        submit(&give);
    }
    return some;
}

int uring_has(mover *sends, mover *receives) {
    struct {
        struct io_uring_probe probe;
        struct io_uring_probe_op operations[256];
    } all = {0};
    struct io_uring_params none = {0};
    int there = syscall(SYS_io_uring_setup, 2, &none);
    if (there < 0)
        return 0;
    syscall(SYS_io_uring_register, there, IORING_REGISTER_PROBE, &all, 256);
    close(there);
    /* 6.0 brought both. */
    int newer = all.probe.last_op >= IORING_OP_SEND_ZC;
    return newer || (sends != uring_send_zc && receives != uring_multishot);
}
