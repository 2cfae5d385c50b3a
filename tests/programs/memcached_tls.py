"""Sets and gets as many keys of a memcached over TLS, and prints how many of each the server has counted: port, count."""

import socket
import ssl
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as connection:
    answers = connection.makefile("rb")
    for n in range(count):
        connection.sendall(b"set key%d 0 0 5\r\nvalue\r\n" % n)
        assert answers.readline() == b"STORED\r\n"
        connection.sendall(b"get key%d\r\n" % n)
        assert [answers.readline() for _ in range(3)] == [b"VALUE key%d 0 5\r\n" % n, b"value\r\n", b"END\r\n"]
    connection.sendall(b"stats\r\n")
    stats = dict(line.split()[1:3] for line in iter(answers.readline, b"END\r\n"))
print("cmd_get", int(stats[b"cmd_get"]), "cmd_set", int(stats[b"cmd_set"]))
