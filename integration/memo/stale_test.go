package memo

import (
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var staleScenes = []stage.Scene{
	{Name: "a stale value is a key of its own, for so long", Run: staleIsAKey},
	{Name: "a redis-memolock process knows nothing of stale values", Run: staleAmongStrangers},
	{Name: "who waits already goes on waiting", Run: staleComesWhileWaiting},
}

// past makes a value whose TTL has ended, and which is stale for a minute.
func (c *scene) past(value string) {
	c.t.Helper()
	g := c.generator.Generate(c.name)
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, g.Token, value, "PX", "200", "STALE", "60000")
	stage.WantValue(c.t, c.generator.Call("KS.MEMO", c.name), value)
	c.awaitEnd()
}

// awaitEnd waits until the value's TTL has ended.
func (c *scene) awaitEnd() {
	c.t.Helper()
	stage.Eventually(c.t, "the value's TTL has ended", func() bool { return c.Must(c.t, "GET", c.name) == nil })
}

// stale checks that all who ask are served that value at once.
func (c *scene) stale(value string) {
	c.t.Helper()
	for proxy := range c.Proxies {
		client := c.Client(c.t, proxy)
		for _, options := range [][]string{nil, {"NOWAIT"}, {"WAIT", "60000"}} {
			pair, _ := client.Call(append([]string{"KS.MEMO", c.name}, options...)...).([]any)
			if len(pair) != 2 || pair[0] != "stale" || pair[1] != value {
				c.t.Fatalf("KS.MEMO %v answers %#v, want the stale value %q", options, pair, value)
			}
		}
	}
}

func staleIsAKey(t *testing.T, s *stage.Stage) {
	c := open(t, s)
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "EX", "20", "STALE", "40000")
	for key, most := range map[string]int64{c.name: 20_000, stage.KeyOf(c.name, "stale"): 60_000} {
		if ttl, _ := s.Must(t, "PTTL", key).(int64); ttl <= most-15_000 || ttl > most {
			t.Errorf("%s lives for %d ms, want %d", key, ttl, most)
		}
	}
	c.forget(1)

	c.past("v")
	for proxy := range s.Proxies {
		client := s.Client(t, proxy)
		client.Expect(nil, "GET", c.name)
		client.Expect(int64(0), "EXISTS", c.name)
		client.ExpectFields(c.name, map[string]any{"held": int64(0), "value": int64(0)})
	}
	c.promise = c.generator.Generate(c.name)
	c.stale("v")
	c.stored(nil)
	c.AwaitLine(t, c.name, 0)
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "next", "PX", "60000")
	c.closes("next")
}

func staleAmongStrangers(t *testing.T, s *stage.Stage) {
	c := &scene{Stage: s, t: t, name: "stale:peers", generator: s.Client(t, 0)}
	c.past("v")
	// A miss for them, and they generate: ours are served meanwhile.
	lock := stage.KeyOf(c.name, "lock")
	if got := s.Must(t, "SET", lock, "theirs", "NX", "PX", "60000"); got != "OK" {
		t.Fatalf("SET NX answers %v", got)
	}
	c.stale("v")
	c.Must(t, "SET", c.name, "theirs", "PX", "200")
	c.publish("theirs")
	c.Must(t, "DEL", lock)
	// Theirs is a value as any. It does not remove ours, which it has followed: that is for KS.RESOLVE and KS.FORGET.
	c.awaitEnd()
	c.promise = c.generator.Generate(c.name)
	c.stale("v")
	c.forget(1)
	c.unpromised()
}

// staleComesWhileWaiting: a copy is made by a promise that is kept, so those who waited have that value.
func staleComesWhileWaiting(t *testing.T, s *stage.Stage) {
	c := begin(t, s)
	c.generator.Expect(int64(1), "KS.RESOLVE", c.name, c.promise.Token, "v", "PX", "1", "STALE", "60000")
	c.have("v", crowd)
	c.awaitEnd()
	c.promise = c.generator.Generate(c.name)
	c.stale("v")
	c.generator.Unlock(c.name, c.promise)
	c.forget(1)
	c.NothingOf(t, c.name, "fence")
}
