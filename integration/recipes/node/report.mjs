// Computes a report that takes a while, or gets it. Arguments: <milliseconds>.

import { setTimeout } from "node:timers/promises";
import { cached } from "./cached.mjs";
import { close, say } from "./common.mjs";

async function makeReport() {
  console.log("computes");
  await setTimeout(Number(process.argv[2]));
  return "the report";
}

await say("ready");
const began = performance.now();
// README begins
const report = await cached("report:2026-11", 60, async () => ({ value: await makeReport(), keep: 3600 }));
// README ends
console.log("has", report, Math.trunc(performance.now() - began));
await close();
