// Arguments: <id> <name>.

import { close } from "./common.mjs";
import { rename } from "./users.mjs";

await rename(...process.argv.slice(2));
await close();
