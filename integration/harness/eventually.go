package harness

import (
	"testing"
	"time"
)

// Eventually waits until a state is reached that no event tells, and fails the test if that takes longer than Patience.
func Eventually(t testing.TB, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond) // between two looks
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !reached(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}
