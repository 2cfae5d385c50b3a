"""Sends one large request over a socket that takes little at a time, so that SSL_write must be repeated, and a small one
after it on the same connection: port, bytes. Prints both statuses, and how often it had to be."""

import select
import socket
import ssl
import sys

port, size = int(sys.argv[1]), int(sys.argv[2])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
plain = socket.create_connection(("127.0.0.1", port))
plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
tls = context.wrap_socket(plain)
tls.setblocking(False)
head = f"POST /ok/large HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
left = head.encode() + b"x" * size
repeated = 0
while left:
    try:
        left = left[tls.send(left):]
    except ssl.SSLWantWriteError:
        repeated += 1
        select.select([], [tls], [])
tls.setblocking(True)
answers = tls.makefile("rb")

first = answers.readline().split()[1].decode()
length = 0
while line := answers.readline().strip().lower():
    if line.startswith(b"content-length:"):
        length = int(line.split()[1])
answers.read(length)
tls.sendall(b"GET /ok/after HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
second = answers.readline().split()[1].decode()
answers.read()
print(first, second, repeated)
