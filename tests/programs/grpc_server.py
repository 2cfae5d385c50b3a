"""A gRPC server without generated code: unary and streaming methods of shop.v1.Cart, which say what they are asked to."""

import sys
import time
from concurrent import futures

import grpc


def get(request, context):
    """`CODE` fails with it, `wait MS` takes so long, anything else is answered."""
    word, _, rest = request.decode().partition(" ")
    if word == "wait":
        time.sleep(int(rest) / 1000)
    elif hasattr(grpc.StatusCode, word):
        context.abort(getattr(grpc.StatusCode, word), "as asked: 100 % Übermut")
    return b"re:" + request


def put(requests, context):
    return b"%d" % sum(1 for _ in requests)


def list_(request, context):
    for number in range(int(request)):
        yield b"item %d" % number


def chat(requests, context):
    for request in requests:
        yield request[::-1]


handlers = grpc.method_handlers_generic_handler(
    "shop.v1.Cart",
    {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "Put": grpc.stream_unary_rpc_method_handler(put),
        "List": grpc.unary_stream_rpc_method_handler(list_),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    },
)
server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((handlers,))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
