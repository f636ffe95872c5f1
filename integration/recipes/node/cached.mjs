// The value of a name, computed once.

import { randomUUID } from "node:crypto";
import { ask, redis } from "./common.mjs";

// README begins
// cached is the value of name. Where there is none, one of all who ask computes it, within lease, and says how long to
// keep it (seconds). An error is told to all who wait, and if it has a keep, to all who ask in that time.
async function cached(name, lease, compute) {
  const token = randomUUID();
  const memo = await ask("KS.MEMO", name, "EX", `${lease}`, "WAIT", `${2000 * lease}`, "TOKEN", token);
  if (memo === null) throw new Error(`no value of ${name} in time`);
  if (memo[0] !== "generate") return memo[1];
  try {
    const { value, keep } = await compute();
    await redis.sendCommand(["KS.RESOLVE", name, token, value, "EX", `${keep}`]);
    return value;
  } catch (e) {
    await redis.sendCommand(["KS.REJECT", name, token, e.message, ...(e.keep ? ["EX", `${e.keep}`] : [])]);
    throw e;
  }
}
// README ends

export { cached };
