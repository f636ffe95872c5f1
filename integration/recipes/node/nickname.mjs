// Arguments: <id>.

import { close } from "./common.mjs";
import { nickname, read } from "./users.mjs";

await read(nickname, process.argv[2]);
await close();
