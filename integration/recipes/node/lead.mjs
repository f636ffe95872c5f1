// Arguments: <role> <who>.

import { createClient } from "redis";
import { redis, url } from "./common.mjs";

const [role, me] = process.argv.slice(2);

// README begins
// lead waits until this process is the leader, and runs work until that returns. When leadership
// is lost, signal is aborted: work must stop then.
async function lead(role, work) {
  const lost = new AbortController();
  const conn = createClient({ url, socket: { reconnectStrategy: false } });
  conn.on("error", () => lost.abort()).on("end", () => lost.abort());
  await conn.connect();
  try {
    const [token, fence] = await conn.sendCommand(["KS.LOCK", role, "SESSION"]);
    const news = role.replace(":", "/locklost:"); // of shop:leader: shop/locklost:leader
    await conn.subscribe(news, (whose) => whose === token && lost.abort());
    const held = await redis.sendCommand(["KS.EXTEND", role, token, "EX", "60"]); // changes nothing; 1: still ours
    if (!held) lost.abort();
    await work(fence, lost.signal);
  } finally {
    conn.destroy(); // lets go
  }
}
// README ends

await lead(role, async (fence, signal) => {
  console.log("leads", me, fence);
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
});
console.log("deposed", me);
process.exit();
