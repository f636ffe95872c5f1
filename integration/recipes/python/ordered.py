"""Arguments: <name>."""

import sys

from common import tell
from worker import ordered

tell("value", ordered(sys.argv[1]))
