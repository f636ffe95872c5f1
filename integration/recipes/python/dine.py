"""Eats with two forks, so many times. Arguments: <who> <fork> <fork> <times>."""

import sys
import time
import uuid

from common import ask, r, say

me, left, right, times = sys.argv[1:]
say("ready")
for _ in range(int(times)):
    r.rpush("meals", f"{me} hungers")
    token = uuid.uuid4().hex
    assert ask(60, "KS.MLOCK", 2, left, right, "PX", 30000, "TOKEN", token)
    r.rpush("meals", f"{me} begins")
    time.sleep(0.02)  # it is long to eat, and short to do all else
    r.rpush("meals", f"{me} ends")
    assert r.execute_command("KS.MUNLOCK", 2, left, right, token) == 2
