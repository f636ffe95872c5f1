// Arguments: <name> <n> <period> <times>.

import { randomUUID } from "node:crypto";
import { ask, close, redis, say } from "./common.mjs";

const [name, n, period, times] = process.argv.slice(2);

// README begins
// turn waits until one more call is allowed: n in any period (ms), whoever makes them.
async function turn(name, n, period) {
  const slot = `${name}:${(await redis.incr(name)) % n}`;
  const lock = await ask("KS.LOCK", slot, "PX", `${period}`, "WAIT", "60000", "TOKEN", randomUUID());
  if (lock === null) throw new Error(`no turn for ${name}`);
  // never unlocked: the lease is the limit
}
// README ends

await say("ready");
for (let i = 0; i < Number(times); i++) {
  await turn(name, Number(n), period);
  console.log("turn");
}
await close();
