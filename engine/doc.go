// Package engine grants locks and memo promises that live in Redis.
//
// Every truth is in Redis: a lock, the line of those who wait for it and the last fencing number are
// keys, and each operation on them is one Lua script (lua/*.lua) that needs no second step. A caller
// asks on its own session with Redis, so under its own rights; if it has to wait, the lock is handed to
// it by the script that ends the hold before, and a bell (a message on this proxy's inbox channel, or
// the reply of a script that this proxy ran) tells it to ask again. A bell carries no truth: the first
// try, a bell, a lost bell, a reconnection and a timer all lead to the same idempotent ask. A hand-off
// is provisional until the new owner's own ask claims it, so that a proxy which is frozen or gone costs
// the line one claim window instead of a lease. Every call is an attempt with an identity of its own, and
// cleaning up after it (leave) touches only what that very attempt has got.
//
// The package knows nothing of RESP, sockets or how clients are served. DESIGN.md has the states, who
// owns what, the races and what is not promised.
package engine
