"""An HTTP/1.1 server: /wait/MS/... answers after so many milliseconds, /chunks/N in N chunks, POST with its length."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.split("/")
        if parts[1] == "wait":
            time.sleep(int(parts[2]) / 1000)
            self.answer(b"waited\n")
        elif parts[1] == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(int(parts[2])):
                text = b"chunk %d\n" % number
                self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(b"hello\n")

    def do_POST(self):
        left = int(self.headers["Content-Length"])
        total = 0
        while left > 0:
            data = self.rfile.read(min(left, 65536))
            if not data:
                return
            left -= len(data)
            total += len(data)
        self.answer(b"%d\n" % total)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 256
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
