"""A value that a worker makes."""

import uuid

from common import ask, r


# README begins
def ordered(name):
    """Has a worker make the value, and waits for it."""
    while True:
        memo = ask(60, "KS.MEMO", name, "EX", 30, "TOKEN", uuid.uuid4().hex)
        if memo is None:
            raise TimeoutError(f"no value of {name} in time")
        word, answer = memo
        if word != "generate":
            return answer
        # We are to make it: pass the token on, then wait as the others do.
        r.lpush("orders", f"{answer} {name}")


def serve(make):
    """Works off one order. All it knows is a name and a token."""
    token, name = r.brpop("orders")[1].split(" ", 1)
    if r.execute_command("KS.EXTEND", name, token, "EX", 60):  # else it is too old: it has been ordered again
        r.execute_command("KS.RESOLVE", name, token, make(name), "EX", 3600)


# README ends
