#!/usr/bin/env python3
"""Records a TCP conversation as fixture files: a relay on loopback that writes what each recv() returned.

    record.py LISTEN_PORT TARGET_PORT OUT_PREFIX "header line" [CONNECTIONS]

One file a connection, in the format that `Fixture::parse` of src/testing.rs reads. The times are the relay's, in
microseconds since the connection was accepted. Stops after CONNECTIONS (default 1) connections.
"""
import socket
import sys
import threading
import time

listen_port, target_port = int(sys.argv[1]), int(sys.argv[2])
prefix, header = sys.argv[3], sys.argv[4]
wanted = int(sys.argv[5]) if len(sys.argv) > 5 else 1


def escape(data):
    lines, line = [], ""
    for byte in data:
        char = chr(byte)
        if char == "\n":
            lines.append(line + "\\n")
            line = ""
        elif char == "\r":
            line += "\\r"
        elif char == "\\":
            line += "\\\\"
        elif 0x20 <= byte < 0x7F:
            line += char
        else:
            line += f"\\x{byte:02x}"
    lines.append(line)
    # A line that could be read as a directive, or that ends in a space, says so by an escape.
    shown = []
    for line in lines:
        if line.startswith(("# ", "> ", "< ", "role ", "recovers ")):
            line = f"\\x{ord(line[0]):02x}" + line[1:]
        if line.endswith(" "):
            line = line[:-1] + "\\s"
        if line:
            shown.append(line)
    return "\n".join(shown)


def pump(source, sink, sign, out, lock, begin):
    while data := source.recv(16384):
        at = int((time.monotonic() - begin) * 1e6)
        with lock:
            out.append(f"{sign} {at}\n{escape(data)}\n")
        sink.sendall(data)
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, index):
    begin = time.monotonic()
    server = socket.create_connection(("127.0.0.1", target_port))
    for sock in (client, server):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    out, lock = [], threading.Lock()
    threads = [
        threading.Thread(target=pump, args=(client, server, ">", out, lock, begin)),
        threading.Thread(target=pump, args=(server, client, "<", out, lock, begin)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = f"{prefix}.txt" if wanted == 1 else f"{prefix}_{index}.txt"
    with open(name, "w", encoding="ascii") as file:
        file.write(f"# {header}\nrole server\n" + "".join(out))


listener = socket.create_server(("127.0.0.1", listen_port))
workers = []
for index in range(wanted):
    client, _ = listener.accept()
    worker = threading.Thread(target=serve, args=(client, index))
    worker.start()
    workers.append(worker)
for worker in workers:
    worker.join()
