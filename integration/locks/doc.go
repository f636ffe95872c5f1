// Package locks checks what is promised of locks and memo locks where they
// live: two or three processes of the built proxy in front of one real
// redis-server, with clients that are raw sockets, and with what breaks in
// practice broken on purpose: processes, connections, links, Redis itself.
//
// Tests that break nothing share a stage (one Redis, three proxies) and use
// names of their own on it; the others start theirs. A stranger's PSUBSCRIBE *
// is connected to every Redis, because it makes PUBLISH's own count of receivers
// lie. What Redis holds is looked at directly, past all proxies: that is how a
// test knows that somebody stands in line. Where a time is promised, the test
// logs what it measured and fails at a multiple of it, for CI is slow.
package locks
