// Eats with two forks, so many times. Arguments: <who> <fork> <fork> <times>.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { ask, close, redis, say } from "./common.mjs";

const [me, left, right, times] = process.argv.slice(2);
await say("ready");
for (let i = 0; i < Number(times); i++) {
  await redis.rPush("meals", `${me} hungers`);
  const token = randomUUID();
  assert.ok(await ask("KS.MLOCK", "2", left, right, "PX", "30000", "WAIT", "60000", "TOKEN", token));
  await redis.rPush("meals", `${me} begins`);
  await setTimeout(20); // it is long to eat, and short to do all else
  await redis.rPush("meals", `${me} ends`);
  assert.equal(await redis.sendCommand(["KS.MUNLOCK", "2", left, right, token]), 2);
}
await close();
