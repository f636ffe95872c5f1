// Asks for a lock that nobody gives back. Arguments: <name>.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { ask, close } from "./common.mjs";

const began = performance.now();
assert.equal(await ask("KS.LOCK", process.argv[2], "WAIT", "2000", "TOKEN", randomUUID()), null);
console.log("nil", Math.trunc(performance.now() - began));
await close();
