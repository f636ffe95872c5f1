"""The value of a name, computed once."""

import uuid

from common import ask, r


# README begins
def cached(name, lease, compute):
    """The value of name. Where there is none, one of all who ask computes it, within lease, and says how long to keep
    it (seconds). An error is told to all who wait, and if it has a keep, to all who ask in that time."""
    token = uuid.uuid4().hex
    memo = ask(2 * lease, "KS.MEMO", name, "EX", lease, "TOKEN", token)
    if memo is None:
        raise TimeoutError(f"no value of {name} in time")
    word, value = memo
    if word != "generate":
        return value
    try:
        value, keep = compute()
    except Exception as e:
        kept = ["EX", e.keep] if hasattr(e, "keep") else []
        r.execute_command("KS.REJECT", name, token, str(e), *kept)
        raise
    r.execute_command("KS.RESOLVE", name, token, value, "EX", keep)
    return value


# README ends
