// Package soak lets many clients use memo locks (and locks in the same lines) on three built proxies in front of one
// real Redis for a long time, while clients, connections, links, proxies and Redis break at random. Every value tells
// by itself who made it from which version of its source, so each answer is checked when it comes: against what can
// have been stored, what was removed, and what the source was at the last KS.FORGET. In between, and at the end, all
// is mended, everybody must be answered, and nothing may be left in Redis or in the proxies.
//
// The short run is an ordinary test; `make soak-memo` is the long one.
//
// To read it: entry_test.go (what is known of a name, and what must be true of it), holds_test.go (who may generate
// when), client_test.go, memo_test.go and stranger_test.go (who calls), integration/faults (what breaks), cycle_test.go,
// leftovers_test.go, soak_test.go (the run), report_test.go. checker_test.go and mutant_test.go prove that violations
// are found.
package soak
