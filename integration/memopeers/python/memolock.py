"""A process that shares memo values over Redis as redis-memolock does, with redis-py.

Arguments: <host> <port>. It reads commands, one a line, and prints what becomes of them:

    ask <key> <ms the lock lives> <ms of patience>
        "hit <value>", or "generates <token>", or "waits" and later "value <ms> <value>" or "timeout <ms>"
    store <ms> <value>      the generator is done: "stored"; 0 ms: for good
    renew <ms>              the generator needs longer: "renewed <reply>"
    fail                    the generator gives up as the library does: by doing nothing, "failed"

Like the library in C#, it deletes the lock when it has stored the value, whosesoever it is by then.
"""

import sys
import time
import uuid

import redis

RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) return 1 else return 0 end"


def keys(key):
    tag, _, name = key.partition(":")
    return f"{tag}/lock:{name}", f"{tag}/notif:{name}", f"{tag}/notif:*"


def say(*words):
    print(*words, flush=True)


class Peer:
    def __init__(self, client):
        self.client = client
        self.renewal = client.register_script(RENEW)
        self.key = self.token = None

    def ask(self, key, lock_ms, patience_ms):
        began = time.monotonic()
        value = self.client.get(key)
        if value is not None:
            return say("hit", value)
        lock, channel, pattern = keys(key)
        token = str(uuid.uuid4())
        if self.client.set(lock, token, px=int(lock_ms) or None, nx=True):
            self.key, self.token = key, token
            return say("generates", token)
        with self.client.pubsub() as subscriber:
            subscriber.psubscribe(pattern)
            assert subscriber.get_message(timeout=20)["type"] == "psubscribe"
            value = self.client.get(key)
            say("waits")
            end = began + int(patience_ms) / 1000
            while value is None and time.monotonic() < end:
                got = subscriber.get_message(timeout=max(0.001, end - time.monotonic()))
                if got and got["type"] == "pmessage" and got["channel"] == channel:
                    value = got["data"]
        took = round((time.monotonic() - began) * 1000)
        if value is None:
            say("timeout", took)
        else:
            say("value", took, value)

    def store(self, ms, value=""):
        lock, channel, _ = keys(self.key)
        pipe = self.client.pipeline(transaction=False)
        pipe.set(self.key, value, px=int(ms) or None)
        pipe.delete(lock)
        pipe.publish(channel, value)
        pipe.execute()
        say("stored")

    def renew(self, ms):
        say("renewed", self.renewal(keys=[keys(self.key)[0]], args=[self.token, int(ms) // 1000]))

    def fail(self):
        say("failed")


peer = Peer(redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), decode_responses=True))
say("ready", "redis-py", redis.__version__)
for line in sys.stdin:
    command, *args = line.rstrip("\n").split(" ", 2 if line.startswith("store") else -1)
    getattr(peer, command)(*args)
