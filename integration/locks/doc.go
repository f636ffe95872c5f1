// Package locks checks what is promised of locks and memo locks where they
// live: one to three processes of the built proxy in front of one real
// redis-server, with clients that are raw sockets, and with what breaks in
// practice broken on purpose: processes, connections, links, Redis itself.
//
// Scenes that break nothing share a stage (package stage: one Redis and its proxies) and use
// names of their own on it; they are played with one proxy and with three. The other
// tests start stages of their own. Where a time is promised, the test
// logs what it measured and fails at a multiple of it, for CI is slow.
package locks
