"""Arguments: <times> <account>..."""

import random
import sys
import uuid

from common import ask, r, say


# README begins
def transfer(source, target, amount):
    """Moves money between the balances that are kept at source and target."""
    token = uuid.uuid4().hex
    try:
        if ask(30, "KS.MLOCK", 2, source, target, "PX", 10000, "TOKEN", token) is None:
            raise TimeoutError("the accounts were not free in time")
        a, b = map(int, r.mget(source, target))
        if a < amount:
            raise ValueError(f"{source} has only {a}")
        r.execute_command("KS.GUARD", source, token, "MSET", source, a - amount, target, b + amount)
    finally:
        r.execute_command("KS.MUNLOCK", 2, source, target, token)


# README ends

say("ready")
for _ in range(int(sys.argv[1])):
    transfer(*random.sample(sys.argv[2:], 2), 1)
