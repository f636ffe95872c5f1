import { close, say } from "./common.mjs";
import { serve } from "./worker.mjs";

await serve((name) => say("makes", name));
await close();
