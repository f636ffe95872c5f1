package locks

import (
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// together are the tests that break nothing: they share a Redis and three
// proxies, and each uses names of its own.
var together = []struct {
	name string
	run  func(*testing.T, *stage.Stage)
}{
	{"a lock is held by one caller at a time", heldByOne},
	{"NOWAIT and WAIT end without the lock", notGrantedInTime},
	{"twenty waiters on three proxies get the lock in the order in which Redis saw them", firstComeFirstServed},
	{"a lease that runs out goes to the first in line", leaseRunsOut},
	{"a lease made shorter by a hand-off is noticed", shorterByHandOff},
	{"a lease made shorter by KS.EXTEND is noticed", shorterByExtend},
	{"KS.EXTEND makes a lease longer for its owner alone", extendByOwner},
	{"KS.UNLOCK without a token gives back what this connection got", unlockWithoutToken},
	{"KS.STATUS tells all but the token", status},
	{"names and databases are apart", apart},

	{"a waiter that hangs up is out of the line", waiterHangsUp},
	{"a grant that crosses a hang-up is handed on", grantCrossesHangUp},
	{"waiting for oneself is told", waitingForOneself},
	{"waiting for an unlock that was sent behind is told", waitingForWhatIsBehind},

	{"the owner asking again gets the same grant", ownerAsksAgain},
	{"a waiter asking again takes its place over", waiterAsksAgain},
	{"a call that is sent again while the first one ends has what it is told", sentAgainMeanwhile},
	{"a place is kept for a while after its call has ended", placeIsKept},

	{"one of fifty generates", oneGenerates},
	{"a generator that gives up is followed by one waiter", generatorGivesUp},
	{"a rejected promise is told on all proxies", rejected},
	{"a rejection with a TTL is remembered", rejectionRemembered},
	{"a value that a stranger stores wakes the waiters", strangerStores},
	{"memo callers that hang up leave nothing behind", memoCallersHangUp},
	{"lock and memo callers stand in one line", mixedLine},
}

func TestTogether(t *testing.T) {
	t.Parallel()
	s := stage.Setup{Proxies: 3}.Start(t)
	before := s.Resources(t)
	t.Run("on one stage", func(t *testing.T) {
		for _, c := range together {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, s)
			})
		}
	})
	s.NothingLeft(t)
	s.AwaitResources(t, before)
}
