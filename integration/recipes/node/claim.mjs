// Arguments: <who> <job>...

import { close, locked, redis, say } from "./common.mjs";

const [me, ...jobs] = process.argv.slice(2);

// README begins
// once does a job unless it is done. Its result, kept in the hash jobs:done, is the mark.
async function once(job, work) {
  await locked(`job:${job}`, 60000, async (token, fence) => {
    if (await redis.hExists("jobs:done", job)) return; // look when the lock is yours, not before
    const result = await work(fence);
    // LOCKLOST: work took too long, and the job is somebody else's.
    await redis.sendCommand(["KS.GUARD", `job:${job}`, token, "HSET", "jobs:done", job, result]);
  });
}
// README ends

await say("ready");
for (const job of jobs) {
  try {
    await once(job, async () => {
      await redis.rPush("jobs:begun", job);
      if (job === "slow") await say("works", me);
      return me;
    });
  } catch (e) {
    if (!e.message.startsWith("LOCKLOST")) throw e;
    console.log("lost", job);
  }
}
await close();
