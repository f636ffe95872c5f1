"""Arguments: <role> <who>."""

import sys

import redis

from common import PORT, tell


# README begins
def lead(role, step):
    """Waits until this process is the leader, then calls step(fence) for as long as it is."""
    conn = redis.Redis(port=PORT, single_connection_client=True, socket_timeout=None, decode_responses=True)
    try:
        token, fence = conn.execute_command("KS.LOCK", role, "SESSION")
        while conn.execute_command("KS.EXTEND", role, token, "EX", 60):  # changes nothing; 1: still ours
            step(fence)
    finally:
        conn.connection_pool.disconnect()  # lets go


# README ends

role, me = sys.argv[1:]
told = False


def step(fence):
    global told
    if not told:
        tell("leads", me, fence)
        told = True


lead(role, step)
tell("deposed", me)
