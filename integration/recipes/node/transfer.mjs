// Arguments: <times> <account>...

import { randomUUID } from "node:crypto";
import { ask, close, redis, say } from "./common.mjs";

const [times, ...accounts] = process.argv.slice(2);

// README begins
// transfer moves money between the balances that are kept at from and to.
async function transfer(from, to, amount) {
  const token = randomUUID();
  try {
    const lock = await ask("KS.MLOCK", "2", from, to, "PX", "10000", "WAIT", "30000", "TOKEN", token);
    if (lock === null) throw new Error("the accounts were not free in time");
    const [source, target] = (await redis.mGet([from, to])).map(Number);
    if (source < amount) throw new Error(`${from} has only ${source}`);
    await redis.sendCommand(["KS.GUARD", from, token, "MSET", from, `${source - amount}`, to, `${target + amount}`]);
  } finally {
    await redis.sendCommand(["KS.MUNLOCK", "2", from, to, token]);
  }
}
// README ends

await say("ready");
for (let i = 0; i < Number(times); i++) {
  const from = Math.floor(Math.random() * accounts.length);
  const to = (from + 1 + Math.floor(Math.random() * (accounts.length - 1))) % accounts.length;
  await transfer(accounts[from], accounts[to], 1);
}
await close();
