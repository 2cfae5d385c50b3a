"""Two ends of one connection that speak nothing known for long, then pause, then HTTP: `unknown_protocol.py TURNS`.

Prints how many bytes of the unknown part went each way.
"""

import os
import socket
import sys
import threading
import time

TURNS = int(sys.argv[1])
SIZE = 64


def receive(sock, size):
    while size:
        size -= len(sock.recv(size))


def serve(listener):
    sock, _ = listener.accept()
    answer = bytes([0xFE]) + os.urandom(SIZE - 1)
    for _ in range(TURNS):
        receive(sock, SIZE)
        sock.sendall(answer)
    for _ in range(10):
        while not sock.recv(4096).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


listener = socket.create_server(("127.0.0.1", 0))
server = threading.Thread(target=serve, args=(listener,))
server.start()
sock = socket.create_connection(listener.getsockname())
question = bytes([0xFD]) + os.urandom(SIZE - 1)
for _ in range(TURNS):
    sock.sendall(question)
    receive(sock, SIZE)
time.sleep(1.5)
for n in range(10):
    sock.sendall(b"GET /late/%d HTTP/1.1\r\nHost: late.example\r\n\r\n" % n)
    sock.recv(4096)
server.join()
print(TURNS * SIZE)
