/* Requests over TLS by an OpenSSL that is linked in: port, paths. The session is used for one connection after the
   other, by SSL_clear. Built by the test: cc static_client.c -Wl,-Bstatic -lssl -lcrypto -Wl,-Bdynamic */

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    SSL *tls = SSL_new(SSL_CTX_new(TLS_client_method()));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    for (int i = 2; i < count; i++) {
        int plain = socket(AF_INET, SOCK_STREAM, 0);
        char text[4096];
        int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", words[i]);
        if (connect(plain, (struct sockaddr *)&address, sizeof address) || !SSL_set_fd(tls, plain) ||
            SSL_connect(tls) != 1 || SSL_write(tls, text, length) != length)
            return 1;
        int status = 0, some = SSL_read(tls, text, sizeof text - 1);
        if (some > 0) {
            text[some] = 0;
            sscanf(text, "HTTP/1.1 %d", &status);
        }
        while (SSL_read(tls, text, sizeof text) > 0) {
        }
        struct sockaddr_in own;
        socklen_t size = sizeof own;
        getsockname(plain, (struct sockaddr *)&own, &size);
        printf("%s %d %d\n", words[i], status, ntohs(own.sin_port));
        SSL_shutdown(tls);
        SSL_clear(tls);
        close(plain);
    }
    return 0;
}
