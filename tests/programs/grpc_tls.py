"""Twenty unary calls over TLS: `server PORT`, or `client PORT`, with cert.pem and key.pem in the current folder."""

import sys
from concurrent import futures

import grpc

role, address = sys.argv[1], "127.0.0.1:" + sys.argv[2]
certificate = open("cert.pem", "rb").read()
if role == "server":
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Cart", {"Echo": echo}),))
    credentials = grpc.ssl_server_credentials([(open("key.pem", "rb").read(), certificate)])
    assert server.add_secure_port(address, credentials)
    server.start()
    server.wait_for_termination()
with grpc.secure_channel(address, grpc.ssl_channel_credentials(certificate)) as channel:
    echo = channel.unary_unary("/shop.v1.Cart/Echo")
    print(sum(echo(b"%d" % n) == b"%d" % n for n in range(20)), "calls")
