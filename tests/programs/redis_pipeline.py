"""A connection that is older than who watches it: redis_pipeline.py PORT FILE. Makes 3,000 requests, says "waiting", and
when FILE is there makes one more, pauses, sets and gets 200 values, and sends a pipeline of 64 that blocks for 0.1 s in
its middle. That nothing is in flight shows a bystander of the client in its pause, and nowhere else."""

import os
import sys
import time

import redis

client = redis.Redis(port=int(sys.argv[1]), single_connection_client=True)
for number in range(3000):
    client.incr("before")
print("waiting", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.005)
client.ping()
time.sleep(0.05)
for number in range(200):
    client.set(f"user:{number}", "a value that nobody should see")
    assert client.get(f"user:{number}")
pipeline = client.pipeline(transaction=False)
for number in range(31):
    pipeline.incr("counter")
pipeline.execute_command("BLPOP", "nothing", 0.1)
for number in range(32):
    pipeline.incr("counter")
assert pipeline.execute()[-1] == 63
client.close()
