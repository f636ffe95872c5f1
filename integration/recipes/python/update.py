"""Arguments: <key> <word>."""

import sys

import redis

from common import locked, r, say


# README begins
def update(key, f):
    """Replaces the value of key by what f makes of it. No other update gets lost, however long f takes."""
    while True:
        with locked(key, 10000) as (token, _):
            value = f(r.get(key))  # read when the lock is yours, not before
            try:
                return r.execute_command("KS.GUARD", key, token, "SET", key, value)
            except redis.ResponseError as e:
                if not str(e).startswith("LOCKLOST"):
                    raise  # else it took too long: again, from what is there now


# README ends


def append(old):
    say("read", old)
    return old + sys.argv[2]


update(sys.argv[1], append)
