"""Asks for a value that is fresh for so long. Arguments: <milliseconds>."""

import sys
import uuid

from common import ask, r, say, tell


# README begins
def refreshed(name, lease, fresh_ms, stale_ms, compute):
    """cached for values that may be old: when one is no longer fresh, who asks first computes the next, and for as
    long as stale_ms all others get the old one at once."""
    token = uuid.uuid4().hex
    memo = ask(2 * lease, "KS.MEMO", name, "EX", lease, "TOKEN", token)
    if memo is None:
        raise TimeoutError(f"no value of {name} in time")
    word, value = memo
    if word != "generate":
        return value  # "value" or "stale"
    try:
        value = compute()
    except Exception:
        r.execute_command("KS.UNLOCK", name, token)  # the next one tries; the others have the old value
        raise
    r.execute_command("KS.RESOLVE", name, token, value, "PX", fresh_ms, "STALE", stale_ms)
    return value


# README ends

tell("value", refreshed("weather:arendelle", 60, int(sys.argv[1]), 3600000, lambda: say("computes")))
