"""Both ends of a TLS session in one thread, over memory: certificate, key. Prints nanoseconds of CPU time per SSL_write
and per SSL_read of 256 bytes, each in the median burst, and how many there were of each.

No socket is involved, so that the library's calls are timed alone. The interpreter's own time is in both sides of a
comparison."""

import ssl
import statistics
import sys
import time

BURSTS = 60
CALLS = 200

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(*sys.argv[1:3])
client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client_context.check_hostname = False
client_context.verify_mode = ssl.CERT_NONE
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
client = client_context.wrap_bio(down, up)
server = server_context.wrap_bio(up, down, server_side=True)


def step(end):
    try:
        end.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False


while not all([step(client), step(server)]):
    pass

head = b"GET /bench HTTP/1.1\r\nHost: x\r\nP: "
request = head + b"p" * (256 - len(head) - 4) + b"\r\n\r\n"
buffer = bytearray(256)
writes, reads = [], []
for _ in range(BURSTS):
    start = time.thread_time_ns()
    for _ in range(CALLS):
        client.write(request)
    written = time.thread_time_ns()
    for _ in range(CALLS):
        server.read(256, buffer)
    read = time.thread_time_ns()
    writes.append((written - start) / CALLS)
    reads.append((read - written) / CALLS)
    # For the agent to empty the ring.
    time.sleep(0.02)
print(statistics.median(writes), statistics.median(reads), BURSTS * CALLS)
