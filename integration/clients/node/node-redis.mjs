// node-redis (npm "redis") through the proxy as against Redis itself.

import assert from "node:assert/strict";
import { BasicClientSideCache, createClient, createClientPool, defineScript, RESP_TYPES, WatchError } from "redis";
import { ask, eventually, everyByte, host, inbox, large, port, protocol, run } from "./cases.mjs";

const options = (more) => ({ socket: { host, port }, RESP: protocol, ...more });

// connect opens a client that is closed at the end of its case.
async function connect(defer, more = {}) {
  const client = createClient(options(more)).on("error", () => {}); // commands report what fails
  defer(() => client.destroy());
  return client.connect();
}

// blocked waits until some client is blocked inside Redis.
const blocked = (client) =>
  eventually(async () => !/blocked_clients:0\r/.test(await client.info("clients")));

// queued waits until n callers stand in line for name.
const queued = (client, name, n) =>
  eventually(async () => (await client.lLen(`${name}/lockwaiting`)) === n);

const buffers = { [RESP_TYPES.BLOB_STRING]: Buffer };

const cases = {
  async setup(defer) {
    const client = await connect(defer, { database: 1, name: "ks-client" });
    assert.equal(await client.ping(), "PONG");
    const info = await client.clientInfo();
    assert.deepEqual([info.name, info.db, info.resp ?? protocol], ["ks-client", 1, protocol]);
    assert.match(await client.info("server"), /redis_version:/);
    assert.deepEqual({ ...(await client.configGet("save")) }, { save: "" });
    assert.ok((await client.commandCount()) > 200);
    assert.equal(await client.echo(""), "");
  },

  async values(defer) {
    const client = await connect(defer);
    await client.set(everyByte, everyByte);
    assert.deepEqual(await client.withTypeMapping(buffers).get(everyByte), everyByte);
    assert.equal(await client.get("values:none"), null);
    await client.hSet("values:hash", { a: "1", b: "" });
    assert.deepEqual({ ...(await client.hGetAll("values:hash")) }, { a: "1", b: "" });
    await client.zAdd("values:zset", [{ score: 1.5, value: "x" }, { score: -Infinity, value: "y" }]);
    assert.deepEqual(await client.zRangeWithScores("values:zset", 0, -1), [
      { value: "y", score: -Infinity }, { value: "x", score: 1.5 }]);
    const id = await client.xAdd("values:stream", "*", { f: "v" });
    assert.equal((await client.xRange("values:stream", "-", "+"))[0].id, id);
    await client.set("values:count", "9007199254700000");
    assert.equal(await client.incr("values:count"), 9007199254700001);
    await assert.rejects(client.lPush("values:hash", "x"), /WRONGTYPE /);
    await assert.rejects(client.sendCommand(["NOSUCH"]), /ERR unknown command 'NOSUCH'/);
  },

  async pipeline(defer) {
    const client = await connect(defer);
    const replies = await Promise.all(Array.from({ length: 10_000 }, (_, i) =>
      [client.set(`pipeline:${i % 100}`, String(i)), client.incr("pipeline:n"), client.echo(`echo ${i}`)]).flat());
    replies.forEach((reply, i) => assert.equal(reply, ["OK", (i - 1) / 3 + 1, `echo ${(i - 2) / 3}`][i % 3]));
    const pipeline = client.multi();
    for (let i = 0; i < 1_000; i++) pipeline.echo(`piped ${i}`);
    (await pipeline.execAsPipeline()).forEach((echo, i) => assert.equal(echo, `piped ${i}`));
    const pool = await createClientPool(options(), { maximum: 10, acquireTimeout: 30_000 }).on("error", () => {}).connect();
    defer(() => pool.destroy());
    const pooled = await Promise.all(Array.from({ length: 1_000 }, (_, i) => pool.echo(`pooled ${i}`)));
    pooled.forEach((echo, i) => assert.equal(echo, `pooled ${i}`));
  },

  async multi(defer) {
    const client = await connect(defer);
    assert.deepEqual(await client.multi().set("multi:k", "v").get("multi:k").exec(), ["OK", "v"]);
    const err = await client.multi().set("multi:k", "w").lPush("multi:k", "x").exec().catch((e) => e);
    assert.match(err.replies?.[1]?.message, /^WRONGTYPE/);
    await assert.rejects(client.multi().addCommand(["NOSUCH"]).set("multi:k", "x").exec(), /EXECABORT|unknown command/);
    assert.equal(await client.get("multi:k"), "w");
  },

  async "multi-aborted"(defer) {
    const client = await connect(defer);
    const other = await connect(defer);
    await client.watch("aborted:k");
    await other.set("aborted:k", "theirs");
    await assert.rejects(client.multi().set("aborted:k", "ours").exec(), WatchError);
    assert.equal(await client.get("aborted:k"), "theirs");
    await client.watch("aborted:k");
    assert.deepEqual(await client.multi().set("aborted:k", "ours").exec(), ["OK"]);
  },

  async pubsub(defer) {
    const subscriber = await connect(defer);
    const publisher = await connect(defer);
    const heard = inbox();
    const hear = (message, channel) => heard.put([channel, message]);
    await subscriber.subscribe(["pubsub:a", "pubsub:b"], hear);
    await subscriber.pSubscribe("pubsub:p*", hear);
    await subscriber.sSubscribe("pubsub:shard", hear);
    for (let i = 0; i < 100; i++) await publisher.publish("pubsub:b", `message ${i}`);
    for (let i = 0; i < 100; i++) assert.deepEqual(await heard.take(), ["pubsub:b", `message ${i}`]);
    await publisher.publish("pubsub:px", "by pattern");
    assert.deepEqual(await heard.take(), ["pubsub:px", "by pattern"]);
    await publisher.sPublish("pubsub:shard", "sharded");
    assert.deepEqual(await heard.take(), ["pubsub:shard", "sharded"]);
    if (protocol === 3) assert.equal(await subscriber.set("pubsub:k", "while subscribed"), "OK");
    await subscriber.unsubscribe();
    await subscriber.pUnsubscribe();
    await subscriber.sUnsubscribe();
    assert.equal(String(await subscriber.set("pubsub:k", "a command again")), "OK");
  },

  async blocking(defer) {
    const client = await connect(defer);
    const waiter = await connect(defer);
    assert.equal(await waiter.blPop("blocking:none", 0.01), null);
    const popped = waiter.brPop(["blocking:a", "blocking:b"], 0);
    await blocked(client);
    await client.lPush("blocking:b", "v");
    assert.deepEqual({ ...(await popped) }, { key: "blocking:b", element: "v" });
    const read = waiter.xRead({ key: "blocking:s", id: "$" }, { BLOCK: 0 });
    await blocked(client);
    await client.xAdd("blocking:s", "*", { f: "v" });
    assert.match(JSON.stringify(await read), /blocking:s.*"f":"v"/);
    assert.deepEqual(await Promise.all([waiter.blPop("blocking:none", 0.05), waiter.echo("behind")]), [null, "behind"]);
  },

  async script(defer) {
    const addAll = defineScript({
      NUMBER_OF_KEYS: 1,
      SCRIPT: "for i = 1, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end return redis.call('LRANGE', KEYS[1], 0, -1)",
      parseCommand: (parser, key, ...values) => { parser.pushKey(key); parser.push(...values); },
      transformReply: (reply) => reply,
    });
    const client = await connect(defer, { scripts: { addAll } });
    assert.deepEqual(await client.addAll("script:list", "a", "b"), ["a", "b"]);
    await client.scriptFlush(); // EVALSHA now answers NOSCRIPT, and the library falls back to EVAL
    assert.deepEqual(await client.addAll("script:list", "c"), ["a", "b", "c"]);
    await assert.rejects(client.eval("return redis.error_reply('MINE no')"), /MINE no/);
    await client.functionLoad("#!lua name=script\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)", { REPLACE: true });
    assert.equal(await client.fCall("twice", { keys: [], arguments: ["21"] }), 42);
  },

  async scan(defer) {
    const client = await connect(defer, { database: 2 });
    await client.mSet(Array.from({ length: 5_000 }, (_, i) => [`scan:${i}`, String(i)]));
    const seen = new Set();
    for await (const keys of client.scanIterator({ MATCH: "scan:*", COUNT: 500 })) keys.forEach((key) => seen.add(key));
    assert.equal(seen.size, 5_000);
    await client.hSet("scanned", [...seen].map((key) => [key, "v"]));
    let fields = 0;
    for await (const entries of client.hScanIterator("scanned", { COUNT: 500 })) fields += entries.length;
    assert.equal(fields, 5_000);
  },

  // The library's own client-side cache, which needs RESP3; with RESP2 tracking
  // by redirection to a subscriber.
  async tracking(defer) {
    const other = await connect(defer);
    await other.set("tracking:k", "first");
    if (protocol === 2) {
      const [client, listener] = [await connect(defer), await connect(defer)];
      const invalidated = inbox();
      const id = await listener.clientId();
      await listener.subscribe("__redis__:invalidate", (key) => invalidated.put(key));
      await client.clientTracking(true, { REDIRECT: id });
      await client.get("tracking:k");
      await other.set("tracking:k", "changed");
      assert.deepEqual([await invalidated.take()].flat(), ["tracking:k"]);
      return;
    }
    const cache = new BasicClientSideCache({ ttl: 0, maxEntries: 100, recordStats: true });
    const client = await connect(defer, { clientSideCache: cache });
    assert.equal(await client.get("tracking:k"), "first");
    assert.equal(await client.get("tracking:k"), "first");
    assert.equal(cache.stats().hitCount, 1);
    await other.set("tracking:k", "changed");
    await eventually(() => cache.size() === 0);
    assert.equal(await client.get("tracking:k"), "changed");
    assert.equal(await client.set("tracking:k", "own"), "OK"); // its invalidation comes before the reply
    assert.equal(await client.get("tracking:k"), "own");
  },

  async large(defer) {
    const client = await connect(defer);
    const value = large();
    await client.set("large:k", value);
    const raw = client.withTypeMapping(buffers);
    const got = await Promise.all([raw.get("large:k"), client.strLen("large:k"), raw.get("large:k")]);
    assert.ok(value.equals(got[0]) && value.equals(got[2]));
    assert.equal(got[1], value.length);
    await client.del("large:k");
  },

  async "wrong-password"(defer) {
    const admin = await connect(defer);
    await admin.aclSetUser("node-redis", ["on", ">right", "~*", "&*", "+@all"]);
    const login = (password) => connect(defer, { username: "node-redis", password, socket: { host, port, reconnectStrategy: false } });
    await assert.rejects(login("wrong"), /WRONGPASS/);
    assert.equal(await (await login("right")).aclWhoAmI(), "node-redis");
  },

  // The server closes the connections of a client and its subscriber: both come back by themselves.
  async killed(defer) {
    const admin = await connect(defer);
    const client = await connect(defer, { name: "to-be-killed" });
    const subscriber = await connect(defer);
    const heard = inbox();
    const ids = [await client.clientId(), await subscriber.clientId()];
    await subscriber.subscribe("killed", (message) => heard.put(message));
    for (const id of ids) assert.equal(await admin.clientKill({ filter: "ID", id }), 1);
    const idNow = () => client.clientId().catch(() => ids[0]); // node-redis rejects what was in flight
    await eventually(async () => !ids.includes(await idNow()));
    assert.equal(await client.clientGetName(), "to-be-killed");
    await eventually(async () => (await admin.publish("killed", "again")) === 1);
    assert.equal(await heard.take(), "again");
  },

  async restart(defer) {
    const client = await connect(defer);
    const waiter = await connect(defer);
    const popped = waiter.blPop("restart:list", 0); // node-redis rejects it when the connection is lost
    await blocked(client);
    await Promise.all([ask("restart"), assert.rejects(popped, /closed/i)]);
    assert.equal(await eventually(() => client.set("restart:k", "v").catch(() => "")), "OK");
    const again = eventually(() => waiter.blPop("restart:list", 0).catch(() => null));
    await blocked(client);
    await client.lPush("restart:list", "v");
    assert.equal((await again).element, "v");
  },

  async "ks-lock"(defer) {
    const client = await connect(defer);
    const [token, fence] = await client.sendCommand(["KS.LOCK", "lock", "PX", "60000"]);
    assert.match(token, /^\S+$/);
    assert.equal(typeof fence, "number");
    assert.equal(await client.sendCommand(["KS.LOCK", "lock", "NOWAIT"]), null);
    assert.equal(await client.sendCommand(["ks.lock", "lock", "WAIT", "50"]), null);
    assert.equal(await client.sendCommand(["KS.UNLOCK", "lock", "not the token"]), 0);
    assert.equal(await client.sendCommand(["KS.UNLOCK", "lock", token]), 1);
    assert.equal(await client.sendCommand(["KS.UNLOCK", "lock", token]), 0);
    await assert.rejects(client.sendCommand(["KS.LOCK"]), /wrong number of arguments for 'ks.lock' command/);
    await assert.rejects(client.sendCommand(["KS.LOCK", "lock", "PX"]), /ERR syntax error/);
  },

  async "ks-queue"(defer) {
    const client = await connect(defer);
    let [token, fence] = await client.sendCommand(["KS.LOCK", "queue"]);
    const waiting = [];
    for (let i = 1; i <= 3; i++) {
      const waiter = await connect(defer);
      waiting.push(waiter.sendCommand(["KS.LOCK", "queue", "PX", "60000"]));
      await queued(client, "queue", i);
    }
    for (const next of waiting) {
      assert.equal(await client.sendCommand(["KS.UNLOCK", "queue", token]), 1);
      const [itsToken, itsFence] = await next;
      assert.ok(itsFence > fence);
      [token, fence] = [itsToken, itsFence];
    }
    assert.equal(await client.sendCommand(["KS.UNLOCK", "queue", token]), 1);
  },

  async "ks-memo"(defer) {
    const [client, ...others] = [await connect(defer), await connect(defer), await connect(defer)];
    const [kind, token] = await client.sendCommand(["KS.MEMO", "memo"]);
    assert.equal(kind, "generate");
    const waiting = others.map((other) => other.sendCommand(["KS.MEMO", "memo"]));
    await queued(client, "memo", 2);
    assert.equal(await client.sendCommand(["KS.RESOLVE", "memo", token, "the value", "PX", "60000"]), 1);
    assert.deepEqual(await Promise.all(waiting), [["value", "the value"], ["value", "the value"]]);
    assert.deepEqual(await client.sendCommand(["KS.MEMO", "memo"]), ["value", "the value"]);
    assert.equal(await client.get("memo"), "the value");
    assert.equal(await client.sendCommand(["KS.RESOLVE", "memo", token, "late"]), 0);
  },

  // In order with the commands around them, in pipelines and in MULTI.
  async "ks-order"(defer) {
    const client = await connect(defer, { database: 3 });
    const lock = () => client.sendCommand(["KS.LOCK", "order", "NOWAIT"]);
    const [set, [token], first, refused, second, exists] = await Promise.all([
      client.set("order:k", "1"), lock(), client.incr("order:k"), lock(), client.incr("order:k"), client.exists("order/lock")]);
    assert.deepEqual([set, first, refused, second, exists], ["OK", 2, null, 3, 1]);
    await assert.rejects(client.multi().addCommand(["KS.UNLOCK", "order", token]).exec(), /EXECABORT|unknown command/);
    assert.equal(await client.sendCommand(["KS.UNLOCK", "order", token]), 1);
    assert.ok((await client.sendCommand(["KS.HELP"])).some((line) => /KS\.LOCK/i.test(line)));
  },

  async "ks-restart"(defer) {
    await ask("restart");
    const client = await connect(defer);
    const lock = () => client.sendCommand(["KS.LOCK", "restarted", "NOWAIT"]).catch((err) => {
      assert.match(err.message, /KSUNAVAILABLE|closed/i); // the proxy's own connections come back
    });
    const [token] = await eventually(lock);
    const waiter = await connect(defer);
    const waiting = waiter.sendCommand(["KS.LOCK", "restarted"]);
    await queued(client, "restarted", 1);
    assert.equal(await client.sendCommand(["KS.UNLOCK", "restarted", token]), 1);
    assert.equal((await waiting).length, 2);
  },
};

await run("redis", cases);
