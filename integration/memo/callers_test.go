package memo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var callerScenes = []stage.Scene{
	{Name: "a value is a hit, an empty one, too", Run: hits},
	{Name: "the first to miss generates", Run: misses},
	{Name: "the lease of a promise is not that of the value", Run: leaseIsTheGenerators},
	{Name: "a promise is a lock on the name", Run: promiseIsALock},
	{Name: "a value is stored with its TTL, or for good", Run: valuesTTL},
}

func hits(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	for _, value := range []string{"v", ""} {
		s.Must(t, "SET", c.name, value)
		for proxy := range s.Proxies {
			for _, options := range [][]string{nil, {"NOWAIT"}, {"WAIT", "1"}, {"PX", "1"}, {"SESSION"}} {
				reply := s.Client(t, proxy).Do(t, append([]string{"KS.MEMO", c.name}, options...)...)
				if want := fmt.Sprintf("*2\r\n$5\r\nvalue\r\n$%d\r\n%s\r\n", len(value), value); reply != want {
					t.Fatalf("KS.MEMO %v answers %q, want %q", options, reply, want)
				}
			}
		}
	}
	c.generator.Unlock(c.name, c.promise)
	s.Must(t, "DEL", c.name)
}

func misses(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	if len(c.promise.Token) < 22 { // 128 bits
		t.Errorf("the token is %q", c.promise.Token)
	}
	c.AwaitOwner(t, c.name, c.promise.Token)
	c.generator.Unlock(c.name, c.promise)
	reply := c.generator.Do(t, "KS.MEMO", c.name, "TOKEN", "mine")
	if want := "*2\r\n$8\r\ngenerate\r\n$4\r\nmine\r\n"; reply != want {
		t.Fatalf("KS.MEMO answers %q, want %q", reply, want)
	}
	c.generator.Unlock(c.name, stage.Grant{Token: "mine"})
}

func leaseIsTheGenerators(t *testing.T, s *stage.Stage) {
	c := open(t, s, "PX", "20000")
	if left, _ := s.Must(t, "PTTL", stage.KeyOf(c.name, "lock")).(int64); left <= 0 || left > 20_000 {
		t.Errorf("the promise lives for %d ms", left)
	}
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v")
	if ttl := s.Must(t, "PTTL", c.name); ttl != int64(-1) {
		t.Errorf("the value lives for %v ms", ttl)
	}
	c.closes("v")
}

func promiseIsALock(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	other := s.Client(t, len(s.Proxies)-1)
	other.Expect(nil, "KS.LOCK", c.name, "NOWAIT")
	other.ExpectFields(c.name, map[string]any{"held": int64(1), "value": int64(0), "error": int64(0)})
	w := s.Join(t, len(s.Proxies)-1, c.name)
	other.Unlock(c.name, c.promise)
	w.Granted()
	other.Expect(nil, "KS.MEMO", c.name, "NOWAIT")
	w.Unlocks()
}

func valuesTTL(t *testing.T, s *stage.Stage) {
	for options, most := range map[string]int64{"PX 60000": 60_000, "EX 60": 60_000, "": -1} {
		c := open(t, s)
		args := append([]string{"KS.RESOLVE", c.name, c.promise.Token, "v"}, strings.Fields(options)...)
		c.generator.Expect(int64(1), args...)
		ttl, _ := s.Must(t, "PTTL", c.name).(int64)
		if most < 0 && ttl != most || most > 0 && (ttl > most || ttl < most/2) {
			t.Errorf("resolved with %q the value has the TTL %d", options, ttl)
		}
		c.closes("v")
	}
}

// Ten thousand waiters would cost no more: one subscription for each proxy, and at the resolve a look.
func TestWaitersCostOneSubscriptionAndOneGetForEachProxy(t *testing.T) {
	stage.OnOneAndThree(t, "ninety waiters", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies}.Start(t)
		const callers = 90
		c := open(t, s, "EX", "600")
		var all []*stage.Client
		for i := range callers {
			w := s.Client(t, i%proxies)
			w.Ask("KS.MEMO", c.name)
			all = append(all, w)
		}
		s.AwaitLine(t, c.name, callers)
		c.awaitSubscribed(proxies)
		s.Must(t, "CONFIG", "RESETSTAT")
		outcomes := stage.Collect(all)
		began := time.Now()
		c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "EX", "600")
		for range callers {
			o := <-outcomes
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			stage.WantValue(t, o.Reply, "v")
		}
		took := time.Since(began)
		scripts := 0
		stats, _ := s.Must(t, "INFO", "commandstats").(string)
		if _, rest, found := strings.Cut(stats, "cmdstat_evalsha:calls="); found {
			fmt.Sscan(strings.Split(rest, ",")[0], &scripts)
		}
		// The resolve, a look for each other proxy, and perhaps another at the message of the same resolve; and
		// somebody's timer.
		if most := 1 + 2*proxies + callers/10; scripts < 1 || scripts > most {
			t.Errorf("%d scripts ran for %d waiters, want %d at most", scripts, callers, most)
		}
		c.row(fmt.Sprintf("none: %d wait, the generator resolves", callers), fmt.Sprintf("all have the value, %d scripts ran", scripts), took, 2*soon)
		c.closes("v")
	})
}
