/* What ways.c and uring.c share. */

#include <sys/types.h>

/* Moves at most so many bytes on a socket, once: how many, or -1 as system calls do; -2 is "try again". */
typedef ssize_t mover(int fd, char *at, size_t n);

void fail(const char *what);

mover uring_send, uring_write, uring_writev, uring_sendmsg, uring_send_zc, uring_send_worker;
mover uring_recv, uring_read, uring_recvmsg, uring_multishot;

/* Whether this kernel has what these need. */
int uring_has(mover *sends, mover *receives);
