// Package chaos lets many clients use locks on three built proxies in front of one real Redis while clients,
// connections, links, proxies and Redis itself break at random, and then checks what each client was told: no two
// holds overlap where both holders could trust theirs, fences rise, nobody writes with a lost lock (KS.GUARD),
// each lock's history is linearizable, and everybody was answered.
//
// A run is made of rounds. Each has names of its own and a seed that decides what its clients want and what breaks
// when (which of them meets which is up to the machine). The short run is an ordinary test; `make chaos` is the
// long one.
//
// To read it: history_test.go (what is recorded), holds_test.go and verdict_test.go (what must be true of it),
// model_test.go (the same for porcupine), client_test.go (who calls), round_test.go, and integration/faults (what breaks).
// checker_test.go and mutant_test.go prove that violations are found.
package chaos
