// What the recipes share. What stands between "README begins" and "README ends" is what the README shows.

import { createInterface } from "node:readline";

// README begins
import { randomUUID } from "node:crypto";
import { createClient, createClientPool } from "redis";
// README ends

export const url = `redis://127.0.0.1:${process.env.PORT}`;

// README begins
const redis = await createClient({ url }).on("error", console.error).connect();
const locks = createClientPool({ url }).on("error", console.error); // one connection for each command that waits
await locks.connect();

// ask tries once more when the connection was lost: with the token that is harmless.
async function ask(...args) {
  try {
    return await locks.sendCommand(args);
  } catch (e) {
    if (/^[A-Z]+ /.test(e.message)) throw e; // Redis or the proxy said no
    return await locks.sendCommand(args);
  }
}
// README ends

// README begins
// locked runs f while it holds the lock on name.
async function locked(name, lease, f) {
  const token = randomUUID();
  try {
    const lock = await ask("KS.LOCK", name, "PX", `${lease}`, "WAIT", "30000", "TOKEN", token);
    if (lock === null) throw new Error(`${name} was not free in time`);
    return await f(token, lock[1]);
  } finally {
    // After an error, too: the lock may have been granted, and the reply lost.
    await redis.sendCommand(["KS.UNLOCK", name, token]);
  }
}
// README ends

export { ask, locked, locks, redis };

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// say tells the test something and waits for its answer.
export async function say(...words) {
  console.log(...words);
  const { value, done } = await lines.next();
  if (done) throw new Error("the test is gone");
  return value;
}

// close lets the process end.
export async function close() {
  await redis.close();
  await locks.close();
  process.stdin.destroy();
}
