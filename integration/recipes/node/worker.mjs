// A value that a worker makes.

import { randomUUID } from "node:crypto";
import { ask, locks, redis } from "./common.mjs";

// README begins
// ordered has a worker make the value, and waits for it.
async function ordered(name) {
  for (;;) {
    const memo = await ask("KS.MEMO", name, "EX", "30", "WAIT", "60000", "TOKEN", randomUUID());
    if (memo === null) throw new Error(`no value of ${name} in time`);
    const [word, answer] = memo;
    if (word !== "generate") return answer;
    // We are to make it: pass the token on, then wait as the others do.
    await redis.lPush("orders", `${answer} ${name}`);
  }
}

// serve works off one order. All it knows is a name and a token.
async function serve(make) {
  const order = await locks.execute((conn) => conn.brPop("orders", 0));
  const [, token, name] = order.element.match(/^(\S+) (.*)$/s);
  const late = !(await redis.sendCommand(["KS.EXTEND", name, token, "EX", "60"]));
  if (late) return; // it has been ordered again
  await redis.sendCommand(["KS.RESOLVE", name, token, await make(name), "EX", "3600"]);
}
// README ends

export { ordered, serve };
