"""Arguments: <id> <name>."""

import sys

from user import rename

rename(*sys.argv[1:])
