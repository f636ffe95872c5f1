"""Arguments: <name> <n> <period> <times>."""

import sys
import uuid

from common import ask, r, say, tell


# README begins
def turn(name, n, period_ms):
    """Waits until one more call is allowed: n in any period, whoever makes them."""
    slot = f"{name}:{r.incr(name) % n}"
    if ask(60, "KS.LOCK", slot, "PX", period_ms, "TOKEN", uuid.uuid4().hex) is None:
        raise TimeoutError(name)
    # never unlocked: the lease is the limit


# README ends

name, n, period, times = sys.argv[1:]
say("ready")
for _ in range(int(times)):
    turn(name, int(n), int(period))
    tell("turn")
