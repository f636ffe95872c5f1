"""Arguments: <id>."""

import sys

from user import nickname, read

read(nickname, sys.argv[1])
