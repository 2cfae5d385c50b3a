"""A server of its own for 127.0.0.1 and ::1 that answers as few servers do: the path says how."""

import socket
import sys
import threading
import time

ANSWERS = {
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "304": [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n"],
    "early": [
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    "plain": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "socket": [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\x81\x05GET /",
        b"\x81\x05hello",
    ],
    "truncated": [b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok"],
    "silent": [],
    # The body that the client has announced is not waited for.
    "declined": [b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno"],
}
LAST = {"socket", "truncated", "silent"}


def handle(connection):
    lines = connection.makefile("rb")
    while request := lines.readline():
        while lines.readline() not in (b"\r\n", b""):
            pass
        # A proxy is asked for http://host/path.
        name = request.split()[1].decode().split("://")[-1].split("/")[1]
        for piece in ANSWERS[name]:
            connection.sendall(piece)
            time.sleep(0.02)
        if name in LAST:
            break
    lines.close()
    connection.close()


def listen(family, address):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, int(sys.argv[1])))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


threading.Thread(target=listen, args=(socket.AF_INET6, "::1"), daemon=True).start()
time.sleep(0.1)
listen(socket.AF_INET, "127.0.0.1")
