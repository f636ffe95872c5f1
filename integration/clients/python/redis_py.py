"""redis-py through the proxy as against Redis itself.

Arguments: <host> <port> <direct | proxy>. It prints a line for each case,

    ok <case>
    not ok <case> <reason>

which the Go test reads; cases whose name begins with "ks_" run only against
the proxy. It keeps to what redis-py has had since 4.3.
"""

import contextlib
import sys
import threading
import time
import traceback

import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError, RedisError, ResponseError, WatchError
from redis.retry import Retry

HOST, PORT, PATH = sys.argv[1], int(sys.argv[2]), sys.argv[3]
PATIENCE = 30  # seconds for one reply; never waited out when all is well


def connect(**options):
    """A client; every connection it opens is closed with the case."""
    options.setdefault("decode_responses", True)
    client = redis.Redis(host=HOST, port=PORT, socket_timeout=PATIENCE, **options)
    opened.callback(client.connection_pool.disconnect)
    return client


def in_background(f, *args):
    """Runs f in a thread; the function returned waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(f(*args)), daemon=True)
    thread.start()

    def join():
        thread.join(PATIENCE)
        assert result, "no reply"
        return result[0]

    return join


def eventually(f):
    """Calls f until it returns something true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = f()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def ask(what):
    """Has the Go test do something to the servers."""
    print(f"ask {what}", flush=True)
    assert sys.stdin.readline() == "done\n"


def raises(error, text, f, *args, **kwargs):
    try:
        got = f(*args, **kwargs)
    except error as err:
        assert text in str(err), str(err)
        return
    raise AssertionError(f"{got!r} instead of {text}")


def blocked(client):
    eventually(lambda: client.info("clients")["blocked_clients"] > 0)


def queued(client, name, n):
    eventually(lambda: client.llen(f"{name}/lockwaiting") == n)


def message(pubsub):
    """The next message that is not the reply to a subscription."""
    while True:
        got = pubsub.get_message(timeout=PATIENCE)
        assert got, "no message"
        if not got["type"].endswith("subscribe"):
            return got


def setup():
    client = connect(db=1, client_name="ks-client")
    assert client.ping() is True
    info = client.client_info()
    assert (info["name"], info["db"]) == ("ks-client", 1), info
    assert "redis_version" in client.info("server")
    assert client.config_get("save") == {"save": ""}
    assert client.command_count() > 200
    assert client.echo("") == ""


def values():
    client, raw = connect(), connect(decode_responses=False)
    every_byte = bytes(range(256))
    raw.set(every_byte, every_byte)
    assert raw.get(every_byte) == every_byte
    assert client.get("values:none") is None
    client.hset("values:hash", mapping={"a": "1", "b": ""})
    assert client.hgetall("values:hash") == {"a": "1", "b": ""}
    client.zadd("values:zset", {"x": 1.5, "y": "-inf"})
    assert client.zrange("values:zset", 0, -1, withscores=True) == [("y", float("-inf")), ("x", 1.5)]
    entry = client.xadd("values:stream", {"f": "v"})
    assert client.xrange("values:stream") == [(entry, {"f": "v"})]
    client.set("values:count", 2**62)
    assert client.incr("values:count") == 2**62 + 1
    raises(ResponseError, "WRONGTYPE", client.lpush, "values:hash", "x")
    raises(ResponseError, "unknown command 'NOSUCH'", client.execute_command, "NOSUCH")


def pipeline():
    pipe = connect().pipeline(transaction=False)
    for i in range(10_000):
        pipe.set(f"pipeline:{i % 100}", i).incr("pipeline:n")
    replies = pipe.execute()
    assert replies[0::2] == [True] * 10_000
    assert replies[1::2] == list(range(1, 10_001))


def multi():
    client = connect()
    assert client.pipeline().set("multi:k", "v").get("multi:k").execute() == [True, "v"]
    replies = client.pipeline().lpush("multi:k", "x").get("multi:k").execute(raise_on_error=False)
    assert "WRONGTYPE" in str(replies[0]) and replies[1] == "v"
    pipe = client.pipeline().set("multi:k", "w")
    pipe.execute_command("NOSUCH")
    raises(ResponseError, "unknown command", pipe.execute)
    assert client.get("multi:k") == "v"


def multi_aborted():
    client, other = connect(), connect()
    with client.pipeline() as pipe:
        pipe.watch("aborted:k")
        other.set("aborted:k", "theirs")
        pipe.multi()
        pipe.set("aborted:k", "ours")
        raises(WatchError, "", pipe.execute)
    assert client.get("aborted:k") == "theirs"

    def write(pipe):
        pipe.multi()
        pipe.set("aborted:k", "ours")

    assert client.transaction(write, "aborted:k") == [True]


def pubsub():
    client = connect()
    subscriber = client.pubsub()
    opened.callback(subscriber.close)
    subscriber.subscribe("pubsub:a", "pubsub:b")
    subscriber.psubscribe("pubsub:p*")
    for want in (1, 2, 3):
        assert subscriber.get_message(timeout=PATIENCE)["data"] == want
    for i in range(100):
        client.publish("pubsub:b", f"message {i}")
    for i in range(100):
        got = message(subscriber)
        assert (got["channel"], got["data"]) == ("pubsub:b", f"message {i}")
    client.publish("pubsub:px", "by pattern")
    assert message(subscriber)["type"] == "pmessage"
    subscriber.ping()
    assert message(subscriber)["type"] == "pong"
    subscriber.unsubscribe()
    subscriber.punsubscribe()
    left = [subscriber.get_message(timeout=PATIENCE)["type"] for _ in range(3)]
    assert left == ["unsubscribe", "unsubscribe", "punsubscribe"], left


def blocking():
    client, waiter = connect(), connect()
    assert waiter.blpop("blocking:none", timeout=0.01) is None
    popped = in_background(waiter.brpop, ["blocking:a", "blocking:b"], 0)
    blocked(client)
    client.lpush("blocking:b", "v")
    assert popped() == ("blocking:b", "v")
    read = in_background(lambda: waiter.xread({"blocking:s": "$"}, block=0))
    blocked(client)
    entry = client.xadd("blocking:s", {"f": "v"})
    assert read() == [["blocking:s", [(entry, {"f": "v"})]]]


def script():
    client = connect()
    add_all = client.register_script(
        "for i = 1, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end "
        "return redis.call('LRANGE', KEYS[1], 0, -1)"
    )
    assert add_all(keys=["script:list"], args=["a", "b"]) == ["a", "b"]
    client.script_flush()  # EVALSHA now answers NOSCRIPT, and redis-py loads it again
    assert add_all(keys=["script:list"], args=["c"]) == ["a", "b", "c"]
    raises(ResponseError, "MINE no", client.eval, "return redis.error_reply('MINE no')", 0)
    code = "#!lua name=script\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"
    client.execute_command("FUNCTION", "LOAD", "REPLACE", code)
    assert client.execute_command("FCALL", "twice", 0, 21) == 42


def scan():
    client = connect(db=2)
    client.mset({f"scan:{i}": i for i in range(5_000)})
    assert len(set(client.scan_iter(match="scan:*", count=500))) == 5_000
    client.hset("scanned", mapping={f"f{i}": i for i in range(5_000)})
    assert len(dict(client.hscan_iter("scanned", count=500))) == 5_000


def tracking():
    """This redis-py has no cache of its own: tracking by redirection to a subscriber."""
    client = connect(single_connection_client=True)
    subscriber = connect(client_name="listener").pubsub()
    opened.callback(subscriber.close)
    subscriber.subscribe("__redis__:invalidate")
    assert subscriber.get_message(timeout=PATIENCE)["data"] == 1
    other = connect()
    (listener,) = [c["id"] for c in other.client_list() if c["name"] == "listener"]
    client.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", listener)
    client.get("tracking:k")
    other.set("tracking:k", "changed")
    assert message(subscriber)["data"] == ["tracking:k"]


def large():
    client = connect(decode_responses=False)
    value = bytes((i * 31 + (i >> 8)) & 255 for i in range(1 << 20)) * 10
    client.set("large:k", value)
    got = client.pipeline(transaction=False).get("large:k").strlen("large:k").get("large:k").execute()
    assert got[0] == value and got[1] == len(value) and got[2] == value
    client.delete("large:k")


def wrong_password():
    connect().acl_setuser("redis-py", enabled=True, passwords=["+right"], keys="*", categories=["+@all"])
    for wrong in (connect(username="redis-py", password="wrong"), connect(username="nobody", password="right")):
        raises(RedisError, "invalid username-password pair", wrong.ping)
    assert connect(username="redis-py", password="right").acl_whoami() == "redis-py"


def killed():
    admin = connect()
    client = connect(client_name="to-be-killed", single_connection_client=True, retry_on_timeout=False)
    subscriber = client.pubsub()
    opened.callback(subscriber.close)
    subscriber.subscribe("killed")
    assert subscriber.get_message(timeout=PATIENCE)["data"] == 1
    first = client.client_id()
    for c in admin.client_list():
        if c["name"] == "to-be-killed":
            assert admin.client_kill_filter(_id=c["id"]) == 1

    def id_now():
        with contextlib.suppress(ConnectionError):
            return client.client_id()

    assert eventually(id_now) != first
    assert client.client_getname() == "to-be-killed"

    def heard():
        """redis-py subscribes again when it next reads."""
        admin.publish("killed", "again")
        with contextlib.suppress(ConnectionError):
            got = subscriber.get_message(timeout=0.05)
            return got and got["type"] == "message" and got["data"] == "again"

    eventually(heard)


def restart():
    retry = Retry(ConstantBackoff(0.05), PATIENCE * 20)
    client = connect(retry=retry, retry_on_error=[ConnectionError])
    waiter = connect(retry=retry, retry_on_error=[ConnectionError])
    popped = in_background(waiter.blpop, "restart:list", 0)  # sent again on the new connection
    blocked(client)
    ask("restart")
    assert client.set("restart:k", "v") is True
    blocked(client)
    client.lpush("restart:list", "v")
    assert popped() == ("restart:list", "v")


def ks_lock():
    client = connect()
    call = client.execute_command
    token, fence = call("KS.LOCK", "lock", "PX", 60_000)
    assert token and isinstance(fence, int)
    assert call("KS.LOCK", "lock", "NOWAIT") is None
    assert call("ks.lock", "lock", "WAIT", 50) is None
    assert call("KS.UNLOCK", "lock", "not the token") == 0
    assert call("KS.UNLOCK", "lock", token) == 1
    assert call("KS.UNLOCK", "lock", token) == 0
    raises(ResponseError, "wrong number of arguments for 'ks.lock' command", call, "KS.LOCK")
    raises(ResponseError, "syntax error", call, "KS.LOCK", "lock", "PX")


def ks_queue():
    client = connect()
    token, fence = client.execute_command("KS.LOCK", "queue")
    waiting = []
    for i in range(1, 4):
        waiting.append(in_background(connect().execute_command, "KS.LOCK", "queue", "PX", 60_000))
        queued(client, "queue", i)
    for granted in waiting:
        assert client.execute_command("KS.UNLOCK", "queue", token) == 1
        token, its_fence = granted()
        assert its_fence > fence
        fence = its_fence
    assert client.execute_command("KS.UNLOCK", "queue", token) == 1


def ks_memo():
    client = connect()
    kind, token = client.execute_command("KS.MEMO", "memo")
    assert kind == "generate"
    waiting = [in_background(connect().execute_command, "KS.MEMO", "memo") for _ in range(2)]
    queued(client, "memo", 2)
    assert client.execute_command("KS.RESOLVE", "memo", token, "the value", "PX", 60_000) == 1
    assert [answer() for answer in waiting] == [["value", "the value"]] * 2
    assert client.execute_command("KS.MEMO", "memo") == ["value", "the value"]
    assert client.get("memo") == "the value"
    assert client.execute_command("KS.RESOLVE", "memo", token, "late") == 0


def ks_order():
    client = connect(db=3)
    pipe = client.pipeline(transaction=False)
    pipe.set("order:k", 1).execute_command("KS.LOCK", "order", "NOWAIT")
    pipe.incr("order:k").execute_command("KS.LOCK", "order", "NOWAIT")
    pipe.incr("order:k").exists("order/lock")
    done, (token, _), first, refused, second, exists = pipe.execute()
    assert (done, first, refused, second, exists) == (True, 2, None, 3, 1)
    inside = client.pipeline()
    inside.execute_command("KS.UNLOCK", "order", token)
    raises(ResponseError, "unknown command", inside.execute)
    assert client.execute_command("KS.UNLOCK", "order", token) == 1
    assert any("KS.LOCK" in line.upper() for line in client.execute_command("KS.HELP"))


def ks_restart():
    ask("restart")
    client = connect()

    def lock():
        try:
            return client.execute_command("KS.LOCK", "restarted", "NOWAIT")
        except (ConnectionError, ResponseError) as err:  # the proxy's own connections come back
            assert isinstance(err, ConnectionError) or "KSUNAVAILABLE" in str(err), err

    token, _ = eventually(lock)
    waiting = in_background(connect().execute_command, "KS.LOCK", "restarted")
    queued(client, "restarted", 1)
    assert client.execute_command("KS.UNLOCK", "restarted", token) == 1
    assert len(waiting()) == 2


CASES = [
    setup, values, pipeline, multi, multi_aborted, pubsub, blocking, script, scan, tracking,
    large, wrong_password, killed, restart, ks_lock, ks_queue, ks_memo, ks_order, ks_restart,
]

print("version redis-py", redis.__version__, flush=True)
for case in CASES:
    name = case.__name__.replace("_", "-")
    if name.startswith("ks-") and PATH != "proxy":
        continue
    with contextlib.ExitStack() as opened:
        try:
            case()
            print("ok", name, flush=True)
        except Exception as err:  # the reason is what the Go test shows
            at = traceback.extract_tb(err.__traceback__)[1:2]
            line = f" at line {at[0].lineno}: {at[0].line}" if at else ""
            print("not ok", name, type(err).__name__, str(err).replace("\n", " ") + line, flush=True)
