"""A gRPC client: PORT CALLS [FILE]. Makes CALLS calls of each kind on one connection, many of them at once, and prints
`METHOD STATUS COUNT` for each pair. With FILE it makes as many before, says "waiting", and goes on when FILE is there."""

import collections
import os
import sys
import threading
import time
from concurrent import futures

import grpc

port, calls = sys.argv[1], int(sys.argv[2])
channel = grpc.insecure_channel("127.0.0.1:" + port)
prefix = "/shop.v1.Cart/"
get = channel.unary_unary(prefix + "Get")
put = channel.stream_unary(prefix + "Put")
list_ = channel.unary_stream(prefix + "List")
chat = channel.stream_stream(prefix + "Chat")
nope = channel.unary_unary(prefix + "Nope")
trace = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)


def cancel():
    """A conversation that is given up after its first answer."""
    go_on = threading.Event()

    def requests():
        yield b"hello"
        go_on.wait(5)

    conversation = chat(requests())
    next(conversation)
    conversation.cancel()
    go_on.set()
    return conversation.result() if hasattr(conversation, "result") else list(conversation)


KINDS = [
    ("Get", lambda: get(b"hello", metadata=trace)),
    ("Get", lambda: get(b"NOT_FOUND")),
    ("Get", lambda: get(b"INTERNAL")),
    ("Get", lambda: get(b"wait 1000", timeout=0.2)),
    ("Nope", lambda: nope(b"x")),
    ("Put", lambda: put(iter([b"a", b"b", b"c"]))),
    ("List", lambda: list(list_(b"3"))),
    ("Chat", lambda: list(chat(iter([b"abc", b"def"])))),
    ("Chat", cancel),
]


def run(counts):
    def one(kind):
        method, call = kind
        try:
            call()
            return method, "OK"
        except grpc.FutureCancelledError:
            return method, "CANCELLED"
        except grpc.RpcError as error:
            return method, error.code().name

    with futures.ThreadPoolExecutor(24) as pool:
        counts.update(pool.map(one, KINDS * calls))


if len(sys.argv) > 3:
    run(collections.Counter())
    print("waiting", flush=True)
    while not os.path.exists(sys.argv[3]):
        time.sleep(0.005)
counts = collections.Counter()
run(counts)
channel.close()
for (method, status), count in sorted(counts.items()):
    print(method, status, count)
