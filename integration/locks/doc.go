// Package locks checks what is promised of locks and memo locks where they
// live: two or three processes of the built proxy in front of one real
// redis-server, with clients that are raw sockets, and with what breaks in
// practice broken on purpose: processes, connections, links, Redis itself.
//
// Tests that break nothing share a stage (package stage: one Redis, three proxies) and use
// names of their own on it; the others start theirs. Where a time is promised, the test
// logs what it measured and fails at a multiple of it, for CI is slow.
package locks
