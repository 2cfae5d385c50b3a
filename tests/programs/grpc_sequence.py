"""Calls one after the other: PORT CALLS BYTES. Every third fails, the others are answered with BYTES and a little more.
Prints `METHOD STATUS COUNT`."""

import collections
import sys

import grpc

port, calls, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
counts = collections.Counter()
with grpc.insecure_channel("127.0.0.1:" + port) as channel:
    get = channel.unary_unary("/shop.v1.Cart/Get")
    for number in range(calls):
        try:
            get(b"INTERNAL" if number % 3 == 2 else b"x" * size)
            counts["OK"] += 1
        except grpc.RpcError as error:
            counts[error.code().name] += 1
for status, count in sorted(counts.items()):
    print("Get", status, count)
