/* HTTP/1 by many at once: crowd THREADS CONNECTIONS EXCHANGES. Two processes with so many threads each; each thread of the
   client opens so many connections, one after the other, with so many exchanges on each. Prints for each exchange:
   `PATH STATUS CLIENT-PORT SERVER-ADDRESS SERVER-PORT`, and at the end on standard error how many connections a second
   there were. Built by the test: cc -pthread crowd.c */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int threads, connections, exchanges, listening, port;
static pthread_barrier_t together;

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        _exit(1);
    }
}

/* Reads a head, and what follows it of `body` bytes. */
static int take(int fd, char *text, size_t room, int body) {
    size_t used = 0;
    for (;;) {
        ssize_t some = read(fd, text + used, room - 1 - used);
        if (some == 0 && used == 0)
            return 0;
        check(some > 0, "read");
        used += some;
        text[used] = 0;
        char *end = strstr(text, "\r\n\r\n");
        if (end && used >= (size_t)(end + 4 - text) + body)
            return 1;
    }
}

static void *serve(void *unused) {
    (void)unused;
    char text[1024], answer[256];
    for (int i = 0; i < connections; i++) {
        int fd = accept(listening, NULL, NULL), thread, connection, n;
        check(fd >= 0, "accept");
        while (take(fd, text, sizeof text, 0)) {
            check(sscanf(text, "GET /crowd/%d-%d-%d ", &thread, &connection, &n) == 3, "a request");
            int size = snprintf(answer, sizeof answer, "HTTP/1.1 %d Fine\r\nContent-Length: 7\r\n\r\n%07d",
                                200 + (thread + connection + n) % 100, thread);
            check(write(fd, answer, size) == size, "write");
        }
        close(fd);
    }
    return NULL;
}

static void *ask(void *number) {
    int thread = (long)number;
    char text[1024], answer[1024];
    pthread_barrier_wait(&together);
    for (int connection = 0; connection < connections; connection++) {
        struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(port)}, own;
        /* There are not ports enough for one address. */
        int last = 1 + connection % 8, fd = socket(AF_INET, SOCK_STREAM, 0);
        server.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + last);
        check(connect(fd, (struct sockaddr *)&server, sizeof server) == 0, "connect");
        socklen_t length = sizeof own;
        getsockname(fd, (struct sockaddr *)&own, &length);
        for (int n = 0; n < exchanges; n++) {
            int size = snprintf(text, sizeof text, "GET /crowd/%d-%d-%d HTTP/1.1\r\nHost: crowd\r\n\r\n", thread, connection, n);
            check(write(fd, text, size) == size, "write");
            check(take(fd, answer, sizeof answer, 7), "an answer");
            int status = atoi(answer + 9);
            check(status == 200 + (thread + connection + n) % 100, "the status");
            printf("/crowd/%d-%d-%d %d %d 127.0.0.%d %d\n", thread, connection, n, status, ntohs(own.sin_port), last, port);
        }
        close(fd);
    }
    return NULL;
}

static void run(void *(*work)(void *)) {
    pthread_t *all = calloc(threads, sizeof *all);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (long i = 0; i < threads; i++)
        check(pthread_create(all + i, &small, work, (void *)i) == 0, "a thread");
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
}

int main(int count, char **words) {
    check(count == 4, "crowd THREADS CONNECTIONS EXCHANGES");
    threads = atoi(words[1]);
    connections = atoi(words[2]);
    exchanges = atoi(words[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    listening = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listening, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(listen(listening, 4096) == 0, "listen");
    getsockname(listening, (struct sockaddr *)&address, &length);
    port = ntohs(address.sin_port);
    pid_t server = fork();
    if (server == 0) {
        run(serve);
        return 0;
    }
    struct timespec from, to;
    pthread_barrier_init(&together, NULL, threads);
    clock_gettime(CLOCK_MONOTONIC, &from);
    run(ask);
    clock_gettime(CLOCK_MONOTONIC, &to);
    int status;
    check(waitpid(server, &status, 0) == server && status == 0, "the server");
    double seconds = to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9;
    long total = (long)threads * connections;
    fprintf(stderr, "%.0f connections a second\n", total / seconds);
    return 0;
}
