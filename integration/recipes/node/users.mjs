// Users, read through the cache.

import { cached } from "./cached.mjs";
import { redis, say } from "./common.mjs";

// README begins
// user reads a user through the cache. That there is none is kept, too, but not for long.
function user(id) {
  return cached(`user:${id}`, 10, async () => {
    const name = await selectUser(id);
    if (name === null) throw Object.assign(new Error("no such user"), { keep: 10 });
    return { value: name, keep: 300 };
  });
}

// rename changes the database, and then has the cache forget what came from it.
async function rename(id, name) {
  await updateUser(id, name);
  await redis.sendCommand(["KS.FORGET", `user:${id}`]);
}
// README ends

// README begins
// nickname is empty for most; that is a value like any other, kept for as long as one likes.
function nickname(id) {
  return cached(`nickname:${id}`, 10, async () => {
    const name = await selectNickname(id);
    return name === null ? { value: "", keep: 60 } : { value: name, keep: 300 };
  });
}
// README ends

export { nickname, rename, user };

// The test is the database.
async function selectUser(id) {
  const answer = await say("select", id);
  if (answer.startsWith("broken")) throw new Error(answer);
  return answer === "none" ? null : answer;
}

const selectNickname = selectUser;

async function updateUser(id, name) {
  await say("update", id, name);
}

export async function read(source, id) {
  try {
    console.log("value", await source(id));
  } catch (e) {
    console.log("error", e.message);
  }
}
