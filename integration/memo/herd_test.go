package memo

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var herdSize = flag.Int("herd", 0, "how many wait in the large herd; 0: 10000, with the race detector 3000")

// largeHerd is how many wait in the large herd: fewer where the limit of open files does not allow as many.
func largeHerd(t *testing.T) int {
	t.Helper()
	n := *herdSize
	if n == 0 {
		n = 10_000
		if harness.RaceEnabled {
			n = 3000
		}
	}
	// The small herd is still there, and the test and Redis have other files open.
	if most := (int(min(process.FileLimit(), 1<<20)) - 300) / 11 * 10; n > most {
		t.Logf("a herd of %d, not of %d: the hard limit of open files (ulimit -Hn) is %d", most, n, process.FileLimit())
		n = most
	}
	if n < 1000 {
		t.Skipf("a herd of %d says nothing", n)
	}
	return n
}

// herdLease outlives any test: no lease runs out while one counts.
const herdLease = "600"

// gather has n callers ask for the value of a new name that is being generated, in turn on each proxy, and returns
// when all of them stand in line and all proxies listen.
func gather(t *testing.T, s *stage.Stage, n int) (*scene, []*stage.Client) {
	t.Helper()
	c := open(t, s, "EX", herdLease)
	var herd []*stage.Client
	for len(herd) < n {
		w := stage.Dial(t, s.Proxy(len(herd)))
		w.Ask("PING")
		if herd = append(herd, w); len(herd)%100 == 0 || len(herd) == n { // or the backlogs of the servers overflow
			for _, w := range herd[(len(herd)-1)/100*100:] {
				w.Next()
			}
		}
	}
	for _, w := range herd {
		w.Ask("KS.MEMO", c.name)
	}
	stage.Eventually(t, fmt.Sprintf("%d callers wait", n), func() bool {
		return s.Must(t, "LLEN", stage.KeyOf(c.name, "lockwaiting")) == int64(n)
	})
	c.awaitSubscribed(min(n, len(s.Proxies)))
	return c, herd
}

// calls is what Redis has been asked so far, but for what the test asks itself.
func calls(t *testing.T, s *stage.Stage) process.Calls {
	t.Helper()
	all := process.ParseCalls(s.Must(t, "INFO", "commandstats").(string))
	delete(all, "info")
	return all
}

// wakes keeps the promise, checks that each of the herd has the value and nobody else was made to generate, and
// returns what Redis was asked meanwhile, and how long that took.
func (c *scene) wakes(herd []*stage.Client) (process.Calls, time.Duration) {
	c.t.Helper()
	before, began := calls(c.t, c.Stage), time.Now()
	value := "of " + c.name
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, value, "EX", herdLease)
	for _, w := range herd {
		stage.WantValue(c.t, w.Next(), value)
	}
	return calls(c.t, c.Stage).Since(before), time.Since(began)
}

// A herd asks Redis once each. What wakes it does not grow with it: a script, a bell and one look for each proxy. While
// it waits each proxy asks for all of its callers, now and then; that is all that time may add.
func TestAHerdCostsRedisTheSameWhateverItsSize(t *testing.T) {
	many := largeHerd(t)
	few := many / 10
	s := stage.Setup{
		Proxies: 3, Redis: []string{"--maxclients", fmt.Sprint(many + few + 100)}, Args: []string{"--maxclients", fmt.Sprint(many/2 + 100)},
	}.Start(t)

	c, herd := gather(t, s, few)
	cost, took := c.wakes(herd)
	before, began := calls(t, s), time.Now()
	c, herd = gather(t, s, many)
	asked, tookToGather := calls(t, s).Since(before), time.Since(began)
	larger, tookLarger := c.wakes(herd)
	t.Logf("%d waiters are woken, %v: %v", few, took, cost)
	t.Logf("%d waiters gather, %v: %v", many, tookToGather, asked)
	t.Logf("%d waiters are woken, %v: %v", many, tookLarger, larger)

	// On each proxy one of all may ask again every 50 ms, the first in line every second, and the proxies ask for themselves.
	scripts := func(took time.Duration) int64 { return 3*(int64(took/(50*time.Millisecond))+2) + 50 }
	if n := asked["evalsha"] - int64(many); n < 0 || n > scripts(tookToGather) {
		t.Errorf("%d scripts to gather %d waiters", asked["evalsha"], many)
	}
	if n := asked["subscribe"] + larger["subscribe"]; n < 3 || n > 12 {
		t.Errorf("%d subscriptions of 3 proxies with %d waiters", n, many)
	}
	if n := larger["evalsha"] - cost["evalsha"]; n > scripts(tookLarger) {
		t.Errorf("%d scripts more to wake %d waiters than to wake %d", n, many, few)
	}
	pieces := int64(many/64 + 1) // in which the line is read, within the script that resolves
	for _, name := range slices.Sorted(maps.Keys(larger)) {
		if n := larger[name] - cost[name]; n > pieces+4*scripts(tookLarger) { // a script has up to 4 of a kind
			t.Errorf("%s: %d calls more to wake %d waiters than to wake %d", name, n, many, few)
		}
	}
	c.closes("of " + c.name)
}

// A value of which every waiter had a copy, or only those that read slowly, would not fit.
func TestALargeValueIsInMemoryOnceForAllWaiters(t *testing.T) {
	const waiters, size = 60, 4 << 20
	s := stage.Setup{Proxies: 1}.Start(t)
	c := open(t, s, "EX", herdLease)
	var herd []net.Conn
	for range waiters {
		nc, err := net.Dial("tcp", s.Proxy(0).Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write([]byte(harness.Command("KS.MEMO", c.name)))
		herd = append(herd, nc)
	}
	s.AwaitLine(t, c.name, waiters)
	before := s.Proxy(0).Memory(t, "VmRSS")
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, strings.Repeat("v", size), "EX", herdLease)
	for _, nc := range herd { // the rest stays unread
		nc.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := nc.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	grown := s.Proxy(0).Memory(t, "VmHWM") - before
	t.Logf("%d waiters for %d MB each: the proxy has grown by %d MB at most", waiters, size>>20, grown>>20)
	if grown > waiters*size/2 {
		t.Errorf("the proxy has grown by %d MB", grown>>20)
	}
}
