"""Computes a report that takes a while, or gets it. Arguments: <milliseconds>."""

import sys
import time

from cached import cached
from common import say, tell


def make_report():
    tell("computes")
    time.sleep(int(sys.argv[1]) / 1000)
    return "the report"


say("ready")
began = time.monotonic()
# README begins
report = cached("report:2026-11", 60, lambda: (make_report(), 3600))
# README ends
tell("has", report, int((time.monotonic() - began) * 1000))
