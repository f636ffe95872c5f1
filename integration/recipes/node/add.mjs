// Adds 1 to a total, so many times, by reading and writing it. Arguments: <name> <times>.

import { close, locked, redis, say } from "./common.mjs";

const [name, times] = process.argv.slice(2);
await say("ready");
for (let i = 0; i < Number(times); i++) {
  await locked(name, 30000, async () => redis.set(name, Number(await redis.get(name)) + 1));
}
await close();
