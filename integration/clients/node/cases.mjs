// What every Node script here shares: it runs named cases one after the other
// and prints a line for each,
//
//   ok <case>
//   not ok <case> <reason>
//
// which the Go test reads. The arguments of a script are
//
//   <host> <port> <RESP version> <direct | proxy>
//
// and cases whose name begins with "ks-" run only against the proxy.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import process from "node:process";

const [, , hostArgument, portArgument, protocolArgument, path] = process.argv;
export const host = hostArgument;
export const port = Number(portArgument);
export const protocol = Number(protocolArgument);

const patience = 30_000; // ms for one case; never waited out when all is well

// versionOf names the installed version of a library.
export function versionOf(library) {
  return createRequire(import.meta.url)(`./node_modules/${library}/package.json`).version;
}

// run runs cases, an object from name to async function. Each function gets a
// `defer` to register what must be closed when the case is over.
export async function run(library, cases) {
  console.log(`version ${library} ${versionOf(library)}`);
  for (const [name, body] of Object.entries(cases)) {
    if (name.startsWith("ks-") && path !== "proxy") continue;
    const cleanups = [];
    try {
      await within(body((f) => cleanups.push(f)), patience);
      console.log(`ok ${name}`);
    } catch (err) {
      const where = String(err?.stack).split("\n").find((line) => line.includes(".mjs:"))?.trim();
      console.log(`not ok ${name} ${String(err?.message ?? err).replaceAll("\n", " | ")} ${where ?? ""}`);
    }
    for (const cleanup of cleanups.reverse()) {
      await within(Promise.resolve().then(cleanup), 5_000).catch(() => {});
    }
  }
  process.exit(0);
}

// within rejects when promise has not settled in time.
function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing happened for ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// ask has the Go test do something to the servers and returns when it is done.
export async function ask(what) {
  console.log(`ask ${what}`);
  const { value } = await answers.next();
  assert.equal(value, "done");
}

// eventually calls f until it returns a truthy value. Its pauses only keep it
// from spinning; nothing depends on their length.
export async function eventually(f) {
  for (;;) {
    const result = await f();
    if (result) return result;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// inbox collects what callbacks deliver, for take to wait on.
export function inbox() {
  const messages = [];
  const takers = [];
  return {
    put(message) {
      const taker = takers.shift();
      taker ? taker(message) : messages.push(message);
    },
    take() {
      return messages.length > 0
        ? Promise.resolve(messages.shift())
        : new Promise((resolve) => takers.push(resolve));
    },
  };
}

// everyByte is a string of all 256 bytes: what a text-minded relay would break.
export const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

// large is a value of 10 MB that contains line ends and repeats nowhere.
export function large() {
  const value = Buffer.alloc(10 * 1024 * 1024);
  let x = 1;
  for (let i = 0; i < value.length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
    value[i] = x >> 16;
  }
  return value;
}

// pending tells whether promise is unsettled after ms milliseconds.
export async function pending(promise, ms = 50) {
  const still = Symbol("pending");
  const timer = new Promise((resolve) => setTimeout(resolve, ms, still));
  return (await Promise.race([promise, timer])) === still;
}
