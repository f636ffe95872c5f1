// Arguments: <key> <word>.

import { close, locked, redis, say } from "./common.mjs";

const [key, word] = process.argv.slice(2);

// README begins
// update replaces the value of key by what f makes of it. No other update gets lost, however long f takes.
async function update(key, f) {
  for (;;) {
    try {
      return await locked(key, 10000, async (token) => {
        const value = await f(await redis.get(key)); // read when the lock is yours, not before
        await redis.sendCommand(["KS.GUARD", key, token, "SET", key, value]);
      });
    } catch (e) {
      if (!e.message.startsWith("LOCKLOST")) throw e; // else it took too long: again, from what is there now
    }
  }
}
// README ends

await update(key, async (old) => {
  await say("read", old);
  return old + word;
});
await close();
