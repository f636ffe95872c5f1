"""Arguments: <id>."""

import sys

import redis

from cached import cached
from common import r, say, tell


# README begins
class NoSuchUser(Exception):
    keep = 10


def user(id):
    """Reads a user through the cache. That there is none is kept, too, but not for long."""

    def compute():
        name = select_user(id)
        if name is None:
            raise NoSuchUser("no such user")
        return name, 300

    return cached(f"user:{id}", 10, compute)


def rename(id, name):
    """Changes the database, and then has the cache forget what came from it."""
    update_user(id, name)
    r.execute_command("KS.FORGET", f"user:{id}")


# README ends


# README begins
def nickname(id):
    """Empty for most; that is a value like any other, kept for as long as one likes."""

    def compute():
        name = select_nickname(id)
        return ("", 60) if name is None else (name, 300)

    return cached(f"nickname:{id}", 10, compute)


# README ends


# The test is the database.
def select_user(id):
    answer = say("select", id)
    if answer.startswith("broken"):
        raise OSError(answer)
    return None if answer == "none" else answer


select_nickname = select_user


def update_user(id, name):
    say("update", id, name)


def read(source, id):
    try:
        tell("value", source(id))
    except (NoSuchUser, OSError, redis.ResponseError) as e:
        tell("error", e)


if __name__ == "__main__":
    read(user, sys.argv[1])
