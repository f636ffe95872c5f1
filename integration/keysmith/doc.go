// Package keysmith checks that callers of the proxy and processes of KeySmith for .NET share locks on one Redis: the built
// proxy, one to three of it, with ks-interop on and off, beside a player (process_test.go) that does to Redis what such a
// process does, as package recorded has it.
//
// Cases that break nothing run one after the other on a stage that they share; the others start theirs. KeySmith keeps its
// own manners: it takes a lock that has run out without looking at the line, and forgets lines. What is checked is what
// holds all the same: one holder at a time, order while leases last, an end to every wait, and nothing left behind.
// Where a time is promised, the test logs what it measured and fails at a multiple of it, for CI is slow.
package keysmith
