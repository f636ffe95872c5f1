// BullMQ through the proxy: queues with workers, each job done exactly once.

import assert from "node:assert/strict";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";
import { ask, eventually, host, port, protocol, run } from "./cases.mjs";

const connection = { host, port, protocol, maxRetriesPerRequest: null };
const quick = { removeOnComplete: false, removeOnFail: false };

// open keeps what has a close() for the end of the case; what it reports about
// lost connections is expected where a case breaks them.
function open(defer, opened) {
  opened.on("error", () => {});
  defer(() => opened.close());
  return opened;
}

// workers starts n workers with the function given and waits until they are ready.
async function workers(defer, name, n, work, options = {}) {
  const all = Array.from({ length: n }, () => open(defer, new Worker(name, work, { connection, concurrency: 5, ...options })));
  await Promise.all(all.map((worker) => worker.waitUntilReady()));
  return all;
}

const queue = (defer, name) => open(defer, new Queue(name, { connection, defaultJobOptions: quick }));

// finished waits until the queue has nothing more to do.
const finished = (queue, completed, failed = 0) =>
  eventually(async () => {
    const counts = await queue.getJobCounts();
    return counts.completed === completed && counts.failed === failed;
  });

const cases = {
  async setup(defer) {
    const q = queue(defer, "setup");
    await q.waitUntilReady();
    await workers(defer, "setup", 2, async () => "ok");
    assert.equal((await eventually(async () => {
      const list = await q.getWorkers(); // by their names in CLIENT LIST
      return list.length === 2 && list;
    })).length, 2);
    const job = await q.add("job", { text: "ünïcode\r\n", n: 1 });
    const events = open(defer, new QueueEvents("setup", { connection }));
    assert.equal(await job.waitUntilFinished(events), "ok");
    assert.deepEqual((await q.getJob(job.id)).data, { text: "ünïcode\r\n", n: 1 });
  },

  async "jobs-once"(defer) {
    const q = queue(defer, "once");
    const done = new Map();
    await workers(defer, "once", 4, async (job) => {
      done.set(job.data.n, (done.get(job.data.n) ?? 0) + 1);
      return job.data.n * 2;
    });
    await q.addBulk(Array.from({ length: 500 }, (_, n) => ({ name: "job", data: { n } })));
    await Promise.all(Array.from({ length: 100 }, (_, n) => q.add("job", { n: 500 + n })));
    await finished(q, 600);
    assert.deepEqual([...done.values()].filter((times) => times !== 1), []);
    assert.equal(done.size, 600);
    const jobs = await q.getJobs("completed", 0, -1);
    assert.ok(jobs.length === 600 && jobs.every((job) => job.returnvalue === job.data.n * 2));
  },

  async delayed(defer) {
    const q = queue(defer, "delayed");
    const order = [];
    await workers(defer, "delayed", 2, async (job) => { order.push([job.data, Date.now()]); }, { concurrency: 1 });
    const start = Date.now();
    await q.add("job", "second", { delay: 700 });
    await q.add("job", "first", { delay: 250 });
    assert.equal((await q.getJobCounts()).delayed, 2);
    await finished(q, 2);
    assert.deepEqual(order.map(([name]) => name), ["first", "second"]);
    assert.ok(order[0][1] - start >= 250 && order[1][1] - start >= 700);
  },

  async retried(defer) {
    const q = queue(defer, "retried");
    const attempts = [];
    await workers(defer, "retried", 2, async (job) => {
      attempts.push(job.data);
      if (job.data === "always" || job.attemptsMade < 2) throw new Error(`attempt ${job.attemptsMade}`);
    });
    const once = await q.add("job", "twice", { attempts: 3, backoff: { type: "fixed", delay: 20 } });
    const never = await q.add("job", "always", { attempts: 2 });
    await finished(q, 1, 1);
    assert.equal(attempts.filter((data) => data === "twice").length, 3);
    assert.equal(attempts.filter((data) => data === "always").length, 2);
    assert.equal((await q.getJob(once.id)).failedReason ?? "attempt 1", "attempt 1");
    assert.equal((await q.getJob(never.id)).failedReason, "attempt 1");
  },

  async priority(defer) {
    const q = queue(defer, "priority");
    for (const priority of [3, 1, 2]) await q.add("job", priority, { priority });
    const order = [];
    await workers(defer, "priority", 1, async (job) => { order.push(job.data); }, { concurrency: 1 });
    await finished(q, 3);
    assert.deepEqual(order, [1, 2, 3]);
  },

  async flow(defer) {
    const flow = open(defer, new FlowProducer({ connection }));
    const [parents, children] = [queue(defer, "parents"), queue(defer, "children")];
    await workers(defer, "children", 2, async (job) => job.data + 1);
    await workers(defer, "parents", 1, async (job) => Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0));
    const { job } = await flow.add({ name: "sum", queueName: "parents", children: [1, 2, 3].map((data) => ({ name: "n", data, queueName: "children" })) });
    await finished(parents, 1);
    await finished(children, 3);
    assert.equal((await parents.getJob(job.id)).returnvalue, 9);
  },

  // The server closes every connection while jobs are done: no job is lost, and
  // one that was done is not done again.
  async killed(defer) {
    const admin = new Redis(connection);
    defer(() => admin.disconnect());
    const q = queue(defer, "killed");
    const done = new Map();
    let release;
    const released = new Promise((resolve) => { release = resolve; });
    await workers(defer, "killed", 2, async (job) => {
      await released;
      done.set(job.data, (done.get(job.data) ?? 0) + 1);
    });
    await q.addBulk(Array.from({ length: 100 }, (_, data) => ({ name: "job", data })));
    await eventually(async () => (await q.getJobCounts()).active === 10);
    await admin.client("KILL", "SKIPME", "YES", "TYPE", "normal");
    release();
    await finished(q, 100);
    assert.deepEqual([done.size, [...done.values()].filter((times) => times !== 1)], [100, []]);
  },

  async restart(defer) {
    const q = queue(defer, "restart");
    await q.waitUntilReady();
    const done = [];
    await workers(defer, "restart", 2, async (job) => { done.push(job.data); });
    await q.add("job", "before");
    await finished(q, 1);
    await ask("restart");
    await q.add("job", "after");
    await finished(q, 1); // Redis came back empty
    assert.deepEqual(done, ["before", "after"]);
  },

  // The queue's own commands and ours on one Redis, through one proxy.
  async "ks-lock"(defer) {
    const q = queue(defer, "locking");
    let holders = 0;
    let most = 0;
    const client = new Redis(connection);
    defer(() => client.disconnect());
    await workers(defer, "locking", 2, async () => {
      const own = new Redis(connection);
      const [token] = await own.call("KS.LOCK", "locking:one", "PX", 60_000);
      most = Math.max(most, ++holders);
      await own.ping();
      holders--;
      assert.equal(await own.call("KS.UNLOCK", "locking:one", token), 1);
      own.disconnect();
    });
    await q.addBulk(Array.from({ length: 50 }, (_, data) => ({ name: "job", data })));
    await finished(q, 50);
    assert.equal(most, 1);
  },

  async "ks-memo"(defer) {
    const q = queue(defer, "memos");
    let generated = 0;
    await workers(defer, "memos", 2, async () => {
      const own = new Redis(connection);
      const [kind, answer] = await own.call("KS.MEMO", "memos:one");
      if (kind === "generate") {
        generated++;
        assert.equal(await own.call("KS.RESOLVE", "memos:one", answer, "42"), 1);
      }
      own.disconnect();
      return kind === "generate" ? "42" : answer;
    });
    await q.addBulk(Array.from({ length: 50 }, (_, data) => ({ name: "job", data })));
    await finished(q, 50);
    const jobs = await q.getJobs("completed", 0, -1);
    assert.ok(jobs.every((job) => job.returnvalue === "42"));
    assert.equal(generated, 1);
  },
};

await run("bullmq", cases);
