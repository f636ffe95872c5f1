// Asks for a value that is fresh for so long. Arguments: <milliseconds>.

import { randomUUID } from "node:crypto";
import { ask, close, redis, say } from "./common.mjs";

// README begins
// refreshed is cached for values that may be old: when one is no longer fresh, who asks first computes the next, and
// for as long as stale (ms) all others get the old one at once.
async function refreshed(name, lease, fresh, stale, compute) {
  const token = randomUUID();
  const memo = await ask("KS.MEMO", name, "EX", `${lease}`, "WAIT", `${2000 * lease}`, "TOKEN", token);
  if (memo === null) throw new Error(`no value of ${name} in time`);
  if (memo[0] !== "generate") return memo[1]; // "value" or "stale"
  let value;
  try {
    value = await compute();
  } catch (e) {
    await redis.sendCommand(["KS.UNLOCK", name, token]); // the next one tries; the others have the old value
    throw e;
  }
  await redis.sendCommand(["KS.RESOLVE", name, token, value, "PX", `${fresh}`, "STALE", `${stale}`]);
  return value;
}
// README ends

console.log("value", await refreshed("weather:arendelle", 60, process.argv[2], 3600000, () => say("computes")));
await close();
