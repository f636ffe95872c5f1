package keysmith

import (
	"fmt"
	"testing"
)

// Cases that break nothing, on one to three proxies.
func TestOneLineWithKeySmith(t *testing.T) {
	cases := []struct {
		name string
		play func(*stage, *testing.T)
	}{
		{"everybody's turn comes in the order that Redis saw", (*stage).sharedQueue},
		{"a hand-off by KeySmith reaches us", (*stage).handOffToUs},
		{"a hand-off by KeySmith makes a generator of who asked for a value", (*stage).handOffToAMemoCaller},
		{"a hand-off by us reaches KeySmith", (*stage).handOffToKeySmith},
		{"owners alternate for rounds", (*stage).alternatingOwners},
		{"many at once, one at a time", (*stage).manyAtOnce},
		{"a waiter of KeySmith's that nobody listens for is passed over", (*stage).deadWaiter},
		{"a cancelled waiter of KeySmith's hands on", (*stage).cancelledWaiter},
		{"KeySmith barges when our lease runs out", (*stage).barging},
		{"we don't when a lease runs out", (*stage).noBarging},
		{"a message to KeySmith is lost", (*stage).lostMessageToKeySmith},
		{"the line is deleted and KeySmith unlinks the rest", (*stage).unlinkedLine},
		{"a hand-off by KeySmith runs out unseen", (*stage).handOffThatRunsOut},
		{"a holder of KeySmith's dies", (*stage).holderDies},
		{"a holder of KeySmith's overstays", (*stage).holderOverstays},
		{"a connection of ours that holds ends", (*stage).sessionEnds},
		{"a holder of ours dies", (*stage).ourHolderDies},
		{"one of ours hangs up after KeySmith's hand-off", (*stage).hangUpAfterHandOff},
		{"nothing of ours ends KeySmith's hold", (*stage).theirHoldStands},
		{"nothing of KeySmith's ends our hold", (*stage).ourHoldStands},
		{"who waits behind KeySmith asks every second", (*stage).asksEverySecond},
	}
	for proxies := 1; proxies <= 3; proxies++ {
		t.Run(fmt.Sprintf("proxies=%d", proxies), func(t *testing.T) {
			onAndOff(t, setup{proxies: proxies}, func(t *testing.T, s *stage) {
				for _, c := range cases {
					t.Run(c.name, func(t *testing.T) { c.play(s, t) })
				}
			})
		})
	}
}
