// Arguments: <name>.

import { close } from "./common.mjs";
import { ordered } from "./worker.mjs";

console.log("value", await ordered(process.argv[2]));
await close();
