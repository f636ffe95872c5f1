// ioredis through the proxy as against Redis itself.

import assert from "node:assert/strict";
import { once } from "node:events";
import { Redis } from "ioredis";
import { ask, eventually, everyByte, host, inbox, large, port, protocol, run } from "./cases.mjs";

// connect opens a client that is closed at the end of its case.
async function connect(defer, options = {}) {
  const client = new Redis({ host, port, protocol, ...options });
  client.on("error", () => {}); // reported by the commands that it fails
  defer(() => client.disconnect());
  await once(client, "ready");
  return client;
}

// blocked waits until some client is blocked inside Redis.
const blocked = (client) =>
  eventually(async () => !/blocked_clients:0\r/.test(await client.info("clients")));

// queued waits until n callers stand in line for name.
const queued = (client, name, n) =>
  eventually(async () => (await client.llen(`${name}/lockwaiting`)) === n);

const cases = {
  async setup(defer) {
    const client = await connect(defer, { db: 1, connectionName: "ks-client" });
    assert.equal(await client.ping(), "PONG");
    assert.match(await client.client("INFO"), new RegExp(`name=ks-client .*db=1 .*resp=${protocol}`));
    assert.match(await client.info("server"), /redis_version:/);
    assert.deepEqual(await client.config("GET", "save"), ["save", ""]);
    assert.ok((await client.command("COUNT")) > 200);
    assert.equal(await client.echo(""), "");
  },

  async values(defer) {
    const client = await connect(defer);
    await client.set(everyByte, everyByte);
    assert.deepEqual(await client.getBuffer(everyByte), everyByte);
    assert.equal(await client.get("values:none"), null);
    await client.hset("values:hash", { a: "1", b: "" });
    assert.deepEqual(await client.hgetall("values:hash"), { a: "1", b: "" });
    await client.zadd("values:zset", 1.5, "x", "-inf", "y");
    assert.deepEqual(await client.zrange("values:zset", 0, -1, "WITHSCORES"), ["y", "-inf", "x", "1.5"]);
    const id = await client.xadd("values:stream", "*", "f", "v");
    assert.deepEqual(await client.xrange("values:stream", "-", "+"), [[id, ["f", "v"]]]);
    await client.set("values:count", "9007199254700000");
    assert.equal(await client.incr("values:count"), 9007199254700001);
    await assert.rejects(client.lpush("values:hash", "x"), /^ReplyError: WRONGTYPE /);
    await assert.rejects(client.call("NOSUCH"), /^ReplyError: ERR unknown command 'NOSUCH'/);
  },

  async pipeline(defer) {
    const client = await connect(defer);
    const pipeline = client.pipeline();
    for (let i = 0; i < 10_000; i++) pipeline.set(`pipeline:${i % 100}`, i).incr("pipeline:n");
    const replies = await pipeline.exec();
    assert.equal(replies.length, 20_000);
    replies.forEach(([err, reply], i) => {
      assert.equal(err, null);
      assert.equal(reply, i % 2 === 0 ? "OK" : (i + 1) / 2);
    });
    const echoes = Array.from({ length: 5_000 }, (_, i) => client.echo(`echo ${i}`));
    (await Promise.all(echoes)).forEach((echo, i) => assert.equal(echo, `echo ${i}`));
  },

  async multi(defer) {
    const client = await connect(defer);
    const replies = await client.multi().set("multi:k", "v").lpush("multi:k", "x").get("multi:k").exec();
    assert.deepEqual([replies[0], replies[2]], [[null, "OK"], [null, "v"]]);
    assert.match(replies[1][0].message, /^WRONGTYPE/);
    await assert.rejects(client.multi().call("NOSUCH").set("multi:k", "w").exec(), /EXECABORT/);
    assert.equal(await client.get("multi:k"), "v");
  },

  async "multi-aborted"(defer) {
    const client = await connect(defer);
    const other = await connect(defer);
    await client.watch("aborted:k");
    await other.set("aborted:k", "theirs");
    assert.equal(await client.multi().set("aborted:k", "ours").exec(), null);
    assert.equal(await client.get("aborted:k"), "theirs");
    await client.watch("aborted:k");
    assert.deepEqual(await client.multi().set("aborted:k", "ours").exec(), [[null, "OK"]]);
  },

  async pubsub(defer) {
    const subscriber = await connect(defer);
    const publisher = await connect(defer);
    const heard = inbox();
    subscriber.on("message", (channel, message) => heard.put([channel, message]));
    subscriber.on("pmessage", (pattern, channel, message) => heard.put([pattern, channel, message]));
    subscriber.on("smessage", (channel, message) => heard.put([channel, message]));
    assert.equal(await subscriber.subscribe("pubsub:a", "pubsub:b"), 2);
    assert.equal(await subscriber.psubscribe("pubsub:p*"), 3);
    assert.equal(await subscriber.ssubscribe("pubsub:shard"), 1);
    for (let i = 0; i < 100; i++) await publisher.publish("pubsub:b", `message ${i}`);
    for (let i = 0; i < 100; i++) assert.deepEqual(await heard.take(), ["pubsub:b", `message ${i}`]);
    await publisher.publish("pubsub:px", "by pattern");
    assert.deepEqual(await heard.take(), ["pubsub:p*", "pubsub:px", "by pattern"]);
    await publisher.spublish("pubsub:shard", "sharded");
    assert.deepEqual(await heard.take(), ["pubsub:shard", "sharded"]);
    assert.match(String(await subscriber.ping()), /^pong/i);
    await subscriber.unsubscribe("pubsub:a", "pubsub:b");
    await subscriber.punsubscribe("pubsub:p*");
    await subscriber.sunsubscribe("pubsub:shard");
    assert.equal(await subscriber.set("pubsub:k", "a command again"), "OK");
  },

  async blocking(defer) {
    const client = await connect(defer);
    const waiter = await connect(defer);
    assert.equal(await waiter.blpop("blocking:none", 0.01), null);
    const popped = waiter.brpop("blocking:a", "blocking:b", 0);
    await blocked(client);
    await client.lpush("blocking:b", "v");
    assert.deepEqual(await popped, ["blocking:b", "v"]);
    const read = waiter.xread("BLOCK", 0, "STREAMS", "blocking:s", "$");
    await blocked(client);
    const id = await client.xadd("blocking:s", "*", "f", "v");
    assert.deepEqual(await read, [["blocking:s", [[id, ["f", "v"]]]]]);
    assert.deepEqual(await Promise.all([waiter.blpop("blocking:none", 0.05), waiter.echo("behind")]), [null, "behind"]);
  },

  async script(defer) {
    const client = await connect(defer);
    client.defineCommand("addAll", { numberOfKeys: 1, lua: "for i = 1, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end return redis.call('LRANGE', KEYS[1], 0, -1)" });
    assert.deepEqual(await client.addAll("script:list", "a", "b"), ["a", "b"]);
    await client.script("FLUSH"); // EVALSHA now answers NOSCRIPT, and ioredis falls back to EVAL
    assert.deepEqual(await client.addAll("script:list", "c"), ["a", "b", "c"]);
    await assert.rejects(client.eval("return redis.error_reply('MINE no')", 0), /MINE no/);
    await client.function("LOAD", "REPLACE", "#!lua name=script\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)");
    assert.equal(await client.fcall("twice", 0, 21), 42);
  },

  async scan(defer) {
    const client = await connect(defer, { db: 2 });
    await client.mset(new Map(Array.from({ length: 5_000 }, (_, i) => [`scan:${i}`, i])));
    const seen = new Set();
    for await (const keys of client.scanStream({ match: "scan:*", count: 500 })) keys.forEach((key) => seen.add(key));
    assert.equal(seen.size, 5_000);
    await client.hset("scanned", Object.fromEntries([...seen].map((key) => [key, "v"])));
    let fields = 0;
    for await (const pairs of client.hscanStream("scanned", { count: 500 })) fields += pairs.length / 2;
    assert.equal(fields, 5_000);
  },

  // ioredis has no cache of its own: tracking by redirection to a subscriber.
  async tracking(defer) {
    const client = await connect(defer);
    const listener = await connect(defer, { protocol: 2 });
    const invalidated = inbox();
    const id = await listener.client("ID");
    listener.on("message", (_, key) => invalidated.put(key));
    await listener.subscribe("__redis__:invalidate");
    await client.client("TRACKING", "ON", "REDIRECT", id);
    await client.get("tracking:k");
    const other = await connect(defer);
    await other.set("tracking:k", "changed");
    assert.deepEqual([await invalidated.take()].flat(), ["tracking:k"]);
    await client.client("TRACKING", "OFF");
  },

  async large(defer) {
    const client = await connect(defer);
    const value = large();
    await client.set("large:k", value);
    const got = await Promise.all([client.getBuffer("large:k"), client.strlen("large:k"), client.getBuffer("large:k")]);
    assert.ok(value.equals(got[0]) && value.equals(got[2]));
    assert.equal(got[1], value.length);
    await client.del("large:k");
  },

  async "wrong-password"(defer) {
    const admin = await connect(defer);
    await admin.acl("SETUSER", "ioredis", "on", ">right", "~*", "&*", "+@all");
    const wrong = new Redis({ host, port, protocol, username: "ioredis", password: "wrong", retryStrategy: null, maxRetriesPerRequest: 0 });
    defer(() => wrong.disconnect());
    const [err] = await once(wrong, "error").then(([e]) => [e], (e) => [e]);
    assert.match(err.message, /WRONGPASS/);
    const right = await connect(defer, { username: "ioredis", password: "right" });
    assert.equal(await right.acl("WHOAMI"), "ioredis");
  },

  // The server closes the connections of a client and its subscriber: both come back by themselves.
  async killed(defer) {
    const admin = await connect(defer);
    const client = await connect(defer, { connectionName: "to-be-killed" });
    const subscriber = await connect(defer);
    const heard = inbox();
    subscriber.on("message", (_, message) => heard.put(message));
    const ids = [await client.client("ID"), await subscriber.client("ID")];
    await subscriber.subscribe("killed");
    for (const id of ids) assert.equal(await admin.client("KILL", "ID", id), 1);
    await eventually(async () => !ids.includes(await client.client("ID")));
    assert.equal(await client.client("GETNAME"), "to-be-killed");
    await eventually(async () => (await admin.publish("killed", "again")) === 1);
    assert.equal(await heard.take(), "again");
  },

  async restart(defer) {
    const client = await connect(defer, { maxRetriesPerRequest: null });
    const waiter = await connect(defer, { maxRetriesPerRequest: null });
    const popped = waiter.blpop("restart:list", 0); // ioredis sends it again on the new connection
    await blocked(client);
    await ask("restart");
    assert.equal(await client.set("restart:k", "v"), "OK");
    await blocked(client);
    await client.lpush("restart:list", "v");
    assert.deepEqual(await popped, ["restart:list", "v"]);
  },

  async "ks-lock"(defer) {
    const client = await connect(defer);
    const [token, fence] = await client.call("KS.LOCK", "lock", "PX", 60_000);
    assert.match(token, /^\S+$/);
    assert.equal(typeof fence, "number");
    assert.equal(await client.call("KS.LOCK", "lock", "NOWAIT"), null);
    assert.equal(await client.call("ks.lock", "lock", "WAIT", 50), null);
    assert.equal(await client.call("KS.UNLOCK", "lock", "not the token"), 0);
    assert.equal(await client.call("KS.UNLOCK", "lock", token), 1);
    assert.equal(await client.call("KS.UNLOCK", "lock", token), 0);
    await assert.rejects(client.call("KS.LOCK"), /wrong number of arguments for 'ks.lock' command/);
    await assert.rejects(client.call("KS.LOCK", "lock", "PX"), /ERR syntax error/);
  },

  async "ks-queue"(defer) {
    const client = await connect(defer);
    let [token, fence] = await client.call("KS.LOCK", "queue");
    const waiting = [];
    for (let i = 1; i <= 3; i++) {
      const waiter = await connect(defer);
      waiting.push(waiter.call("KS.LOCK", "queue", "PX", 60_000));
      await queued(client, "queue", i);
    }
    for (const next of waiting) {
      assert.equal(await client.call("KS.UNLOCK", "queue", token), 1);
      const [itsToken, itsFence] = await next;
      assert.ok(itsFence > fence);
      [token, fence] = [itsToken, itsFence];
    }
    assert.equal(await client.call("KS.UNLOCK", "queue", token), 1);
  },

  async "ks-memo"(defer) {
    const [client, ...others] = [await connect(defer), await connect(defer), await connect(defer)];
    const [kind, token] = await client.call("KS.MEMO", "memo");
    assert.equal(kind, "generate");
    const waiting = others.map((other) => other.call("KS.MEMO", "memo"));
    await queued(client, "memo", 2);
    assert.equal(await client.call("KS.RESOLVE", "memo", token, "the value", "PX", 60_000), 1);
    assert.deepEqual(await Promise.all(waiting), [["value", "the value"], ["value", "the value"]]);
    assert.deepEqual(await client.call("KS.MEMO", "memo"), ["value", "the value"]);
    assert.equal(await client.get("memo"), "the value");
    assert.equal(await client.call("KS.RESOLVE", "memo", token, "late"), 0);
  },

  // In order with the commands around them, in pipelines and in MULTI.
  async "ks-order"(defer) {
    const client = await connect(defer, { db: 3 });
    const replies = await client.pipeline().set("order:k", 1).call("KS.LOCK", "order", "NOWAIT").incr("order:k")
      .call("KS.LOCK", "order", "NOWAIT").incr("order:k").exists("order/lock").exec();
    assert.deepEqual(replies.map(([err]) => err), Array(6).fill(null));
    const [set, [token], first, refused, second, exists] = replies.map(([, reply]) => reply);
    assert.deepEqual([set, first, refused, second, exists], ["OK", 2, null, 3, 1]);
    await assert.rejects(client.multi().call("KS.UNLOCK", "order", token).exec(), /EXECABORT/);
    assert.equal(await client.call("KS.UNLOCK", "order", token), 1);
    assert.ok((await client.call("KS.HELP")).some((line) => /KS\.LOCK/i.test(line)));
  },

  async "ks-restart"(defer) {
    const client = await connect(defer);
    await ask("restart");
    const lock = () => client.call("KS.LOCK", "restarted", "NOWAIT").catch((err) => {
      assert.match(err.message, /KSUNAVAILABLE|Connection is closed/); // the proxy's own connections come back
    });
    const [token] = await eventually(lock);
    const waiter = await connect(defer);
    const waiting = waiter.call("KS.LOCK", "restarted");
    await queued(client, "restarted", 1);
    assert.equal(await client.call("KS.UNLOCK", "restarted", token), 1);
    assert.equal((await waiting).length, 2);
  },
};

await run("ioredis", cases);
