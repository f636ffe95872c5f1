"""What the recipes share. What stands between "README begins" and "README ends" is what the README shows."""

# README begins
import contextlib
# README ends
import os
import sys
import time
import uuid

import redis

PORT = int(os.environ["PORT"])
r = redis.Redis(host="127.0.0.1", port=PORT, decode_responses=True)


# README begins
def ask(patience, *args):
    """Calls KS.LOCK or KS.MEMO until it is granted; None when patience (seconds) ends."""
    end = time.monotonic() + patience
    while True:
        try:
            reply = r.execute_command(*args, "WAIT", 2000)  # below the read time-out
        except (redis.ConnectionError, redis.TimeoutError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)  # then again with the same token
            continue
        if reply is not None or time.monotonic() > end:
            return reply


# README ends


# README begins
@contextlib.contextmanager
def locked(name, lease_ms):
    """Holds the lock on name: with locked("jobs:nightly", 60000) as (token, fence): ..."""
    token = uuid.uuid4().hex
    try:
        lock = ask(30, "KS.LOCK", name, "PX", lease_ms, "TOKEN", token)
        if lock is None:
            raise TimeoutError(f"{name} was not free in time")
        yield lock
    finally:  # after an error, too: the lock may have been granted, and the reply lost
        r.execute_command("KS.UNLOCK", name, token)


# README ends


def say(*words):
    """Tells the test something and waits for its answer."""
    tell(*words)
    line = sys.stdin.readline()
    assert line, "the test is gone"
    return line.rstrip("\n")


def tell(*words):
    print(*words, flush=True)
