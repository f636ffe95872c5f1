"""Asks for a lock that nobody gives back. Arguments: <name>."""

import sys
import time
import uuid

from common import ask, tell

began = time.monotonic()
reply = ask(2, "KS.LOCK", sys.argv[1], "TOKEN", uuid.uuid4().hex)
assert reply is None, reply
tell("nil", int((time.monotonic() - began) * 1000))
