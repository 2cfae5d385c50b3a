#!/usr/bin/env python3
"""An HTTP server that publishes an OpenTelemetry process context (OTEP 4719), as an SDK would.

    publisher.py PORT SERVICE_NAME
"""

import ctypes
import mmap
import os
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, name = int(sys.argv[1]), sys.argv[2].encode()


def field(number, value):
    return bytes([number << 3 | 2, len(value)]) + value


attribute = field(1, b"service.name") + field(2, field(1, name))
payload = field(1, field(1, attribute))

descriptor = os.memfd_create("OTEL_CTX")
os.ftruncate(descriptor, mmap.PAGESIZE)
mapping = mmap.mmap(descriptor, mmap.PAGESIZE)
os.close(descriptor)
address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
mapping[32 : 32 + len(payload)] = payload
# The signature comes last: with it all of it is valid.
mapping[8:32] = struct.pack("=IIQQ", 2, len(payload), 1_700_000_000_000_000_000, address + 32)
mapping[0:8] = b"OTEL_CTX"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
