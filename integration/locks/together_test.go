package locks

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// together are the tests that break nothing: they share a Redis and three
// proxies, and each uses names of its own.
var together = []struct {
	name string
	run  func(*testing.T, *stage)
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
	s := setup{proxies: 3}.start(t)
	before := s.resources(t)
	t.Run("on one stage", func(t *testing.T) {
		for _, c := range together {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, s)
			})
		}
	})
	s.nothingLeft(t)
	s.awaitResources(t, before)
}

// nothingLeft checks that a finished normal course leaves the fences and what
// was stored for longer, and that nothing of that is there for ever.
func (s *stage) nothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	deadline := time.Now().Add(harness.Patience)
	for {
		left = slices.DeleteFunc(s.words(t, "KEYS", "*"), stays)
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond) // the next look
	}
	for _, key := range left {
		t.Errorf("%s is left, for %v ms", key, s.do(t, "PTTL", key))
	}
	for _, key := range s.words(t, "KEYS", "*") {
		if ttl := s.do(t, "PTTL", key); ttl == int64(-1) {
			t.Errorf("%s would stay for ever", key)
		}
	}
}

// stays: a fence, or what the proxies have agreed on.
func stays(key string) bool { return strings.Contains(key, "/fence") || key == "ks/config:tag-split" }

// withinAMinute checks what even an abrupt end leaves: nothing but fences that
// does not go by itself within a minute.
func (s *stage) withinAMinute(t *testing.T) {
	t.Helper()
	for _, key := range s.words(t, "KEYS", "*") {
		ttl, _ := s.do(t, "PTTL", key).(int64)
		switch {
		case ttl == -2: // gone meanwhile
		case ttl == -1:
			t.Errorf("%s would stay for ever", key)
		case ttl > 60_000 && !stays(key):
			t.Errorf("%s stays for %d ms", key, ttl)
		}
	}
}

// resources is what the proxies use.
type resources struct {
	connections int
	files       []int
}

func (s *stage) resources(t testing.TB) resources {
	t.Helper()
	r := resources{connections: len(s.own(t, -1))}
	for _, p := range s.proxies {
		r.files = append(r.files, p.Files(t))
	}
	return r
}

// awaitResources waits until the proxies use no more than before: no
// connection and no descriptor of a client is left. Their own pool of connections may
// have grown.
func (s *stage) awaitResources(t testing.TB, before resources) {
	t.Helper()
	const pooled = 20 // own connections in a proxy's pool
	var now resources
	defer func() { t.Logf("own connections and descriptors: %+v before, %+v after", before, now) }()
	eventually(t, fmt.Sprintf("the proxies use no more than before: %+v", before), func() bool {
		now = s.resources(t)
		grown := now.connections - before.connections
		for i := range now.files {
			grown = max(grown, now.files[i]-before.files[i])
		}
		strangers := 0
		for _, p := range s.peers(t) {
			if p["name"] != "keysmith-proxy" {
				strangers++
			}
		}
		return grown <= pooled && strangers == 2 // who looks, and who listens to everything
	})
}
