"""Adds 1 to a total, so many times, by reading and writing it. Arguments: <name> <times>."""

import sys

from common import locked, r, say

name, times = sys.argv[1:]
say("ready")
for _ in range(int(times)):
    with locked(name, 30000):
        r.set(name, int(r.get(name)) + 1)
