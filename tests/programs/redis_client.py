"""What an application does with Redis, over RESP3: redis_client.py PORT."""
import sys

import redis

client = redis.Redis(port=int(sys.argv[1]), protocol=3)
for number in range(50):
    client.set(f"user:{number}", "a value that nobody should see")
    assert client.get(f"user:{number}")
client.hset("hash", mapping={"name": "x", "born": "y"})
assert client.hgetall("hash")
client.sadd("set", "a", "b")
client.zadd("zset", {"member": 1.5})
assert client.zscore("zset", "member") == 1.5
client.set("big", "v" * 1_000_000)
assert len(client.get("big")) == 1_000_000
client.rpush("list", *range(5000))
assert len(client.lrange("list", 0, -1)) == 5000
try:
    client.incr("hash")
except redis.ResponseError:
    pass
with client.pipeline(transaction=False) as pipeline:
    for number in range(100):
        pipeline.incr("counter")
    pipeline.execute()
with client.pipeline() as pipeline:
    pipeline.set("a", 1)
    pipeline.incr("a")
    pipeline.execute()
messages = client.pubsub()
messages.subscribe("news")
assert messages.get_message(timeout=5)["type"] == "subscribe"
client.publish("news", "a message")
assert messages.get_message(timeout=5)["type"] == "message"
assert client.blpop("nothing", timeout=0.1) is None
messages.close()
client.close()
