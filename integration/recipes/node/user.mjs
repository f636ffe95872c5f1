// Arguments: <id>.

import { close } from "./common.mjs";
import { read, user } from "./users.mjs";

await read(user, process.argv[2]);
await close();
