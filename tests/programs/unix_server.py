"""HTTP over a Unix socket, by whoever holds the descriptor: the path to listen at; `@` at its beginning is one that is in
no file system. Looks at each request with MSG_PEEK before anybody reads it. What it is asked for decides who answers:

/passed   another program, which gets the descriptor over another socket (SCM_RIGHTS); its service is `worker`
/forked   a child that inherits it, and stays for as long as we do
others    itself

Answers have no length: they end with the connection. Before it answers for itself it also talks over pairs of sockets:
of SOCK_SEQPACKET and SOCK_DGRAM, where HTTP is none, and of SOCK_STREAM, which has no name.
"""

import os
import signal
import socket
import subprocess
import sys


def answer(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    connection.sendmsg([b"o", b"k"])
    connection.close()


def talk(kind, path):
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    if os.fork() == 0:
        ours.close()
        theirs.recv(65536)
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        os._exit(0)
    theirs.close()
    ours.sendall(b"GET %s HTTP/1.1\r\nHost: pair\r\n\r\n" % path)
    ours.recv(65536)
    ours.close()


if sys.argv[1] == "--worker":
    channel = socket.socket(fileno=int(sys.argv[2]))
    while descriptors := socket.recv_fds(channel, 1, 1)[1]:
        answer(socket.socket(fileno=descriptors[0]))
    sys.exit()

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind("\0" + path[1:] if path.startswith("@") else path)
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
environment = os.environ | {"OTEL_SERVICE_NAME": "worker"}
command = [sys.executable, __file__, "--worker", str(there.fileno())]
worker = subprocess.Popen(command, pass_fds=[there.fileno()], env=environment)
there.close()
until, we_live = os.pipe()
listener.listen(16)
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head = connection.recv(65536, socket.MSG_PEEK)
    asked = head.split()[1]
    if asked == b"/passed":
        socket.send_fds(here, [b"x"], [connection.fileno()])
    elif asked == b"/forked":
        if os.fork() == 0:
            os.close(we_live)
            answer(connection)
            os.read(until, 1)
            os._exit(0)
    else:
        talk(socket.SOCK_SEQPACKET, b"/seqpacket")
        talk(socket.SOCK_DGRAM, b"/datagram")
        talk(socket.SOCK_STREAM, b"/pair")
        answer(connection)
    connection.close()
