package locks

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var waitScenes = []stage.Scene{
	{Name: "KS.WAIT ends with the hold that stood", Run: waitsForTheHold},
	{Name: "KS.WAIT answers at once where nobody holds", Run: waitsForNobody},
	{Name: "KS.WAIT gives up after its time", Run: waitGivesUp},
	{Name: "KS.WAIT stands in no line", Run: waitStandsInNoLine},
}

// observe sends KS.WAIT and returns when the hold is watched, or has ended.
func observe(t testing.TB, s *stage.Stage, proxy int, name, ms string) *stage.Client {
	t.Helper()
	c := s.Client(t, proxy)
	before := s.Try(t, "HGET", stage.KeyOf(name, "fence"), "w")
	answered, _ := c.Received()
	asked := len(answered)
	c.Ask("KS.WAIT", name, ms)
	stage.Eventually(t, "the hold of "+name+" is watched", func() bool {
		answered, _ := c.Received()
		return len(answered) > asked || s.Try(t, "HGET", stage.KeyOf(name, "fence"), "w") != before
	})
	return c
}

func wantNext(t testing.TB, c *stage.Client, reply any, why string) {
	t.Helper()
	if got := c.Next(); got != reply {
		t.Fatalf("%s: answered %#v, want %#v", why, got, reply)
	}
}

func waitsForTheHold(t *testing.T, s *stage.Stage) {
	ends := []struct {
		name    string
		options []string
		end     func(holder *stage.Client, name string, g stage.Grant)
	}{
		{"unlocked", nil, func(c *stage.Client, name string, g stage.Grant) { c.Unlock(name, g) }},
		{"session ended", []string{"SESSION"}, func(c *stage.Client, _ string, _ stage.Grant) { c.Close() }},
		{"ran out", []string{"PX", "400"}, func(*stage.Client, string, stage.Grant) {}},
		{"lease cut short", []string{"EX", "3600"}, func(c *stage.Client, name string, g stage.Grant) {
			c.Expect(int64(1), "KS.EXTEND", name, g.Token, "PX", "50")
		}},
	}
	for i := range s.Proxies {
		for _, how := range ends {
			name := "wait:" + how.name
			holder := s.Client(t, 0)
			g := holder.Lock(name, how.options...)
			c := observe(t, s, i, name, "0")
			began := time.Now()
			how.end(holder, name, g)
			wantNext(t, c, int64(1), how.name)
			stage.Took(t, "KS.WAIT was answered, "+how.name, began, 500*time.Millisecond, 3*time.Second)
		}
		// Handed on: somebody holds, but it is not the hold that stood.
		const name = "wait:handed on"
		holder := s.Client(t, 0)
		g := holder.Lock(name)
		w := s.Join(t, i+1, name)
		c := observe(t, s, i, name, "0")
		holder.Unlock(name, g)
		wantNext(t, c, int64(1), "handed on")
		w.Granted()
		if owner := s.Owner(t, name); owner != w.Token {
			t.Fatalf("the lock is %q's", owner)
		}
		w.Unlocks()
		// And it is a promise to make a value all the same.
		g = holder.Generate("wait:memo")
		c = observe(t, s, i, "wait:memo", "60000")
		holder.Expect(int64(1), "KS.RESOLVE", "wait:memo", g.Token, "v", "PX", "60000")
		wantNext(t, c, int64(1), "resolved")
		holder.Expect(int64(1), "DEL", "wait:memo")
	}
}

func waitsForNobody(t *testing.T, s *stage.Stage) {
	for i := range s.Proxies {
		c := s.Client(t, i)
		began := time.Now()
		c.Expect(int64(1), "KS.WAIT", "wait:nobody", "0")
		c.Expect(int64(1), "KS.WAIT", "wait:nobody", "60000")
		stage.Took(t, "KS.WAIT where nobody holds", began, 0, 2*time.Second)
	}
	c := s.Client(t, 0)
	c.ExpectRefusal("ERR wrong number of arguments for 'ks.wait' command", "KS.WAIT", "wait:nobody")
	c.ExpectRefusal("ERR timeout is negative", "KS.WAIT", "wait:nobody", "-1")
	c.ExpectRefusal("ERR timeout is not an integer or out of range", "KS.WAIT", "wait:nobody", "soon")
}

func waitGivesUp(t *testing.T, s *stage.Stage) {
	const name = "wait:given up"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	unbounded := observe(t, s, 1, name, "0")
	for i := range s.Proxies {
		c := s.Client(t, i)
		began := time.Now()
		c.Expect(int64(0), "KS.WAIT", name, "80")
		if d := time.Since(began); d < 80*time.Millisecond {
			t.Errorf("KS.WAIT 80 gave up after %v", d)
		}
		stage.Took(t, "KS.WAIT 80", began, 80*time.Millisecond, time.Second)
	}
	if reply, err := unbounded.ReplyWithin(time.Nanosecond); err == nil {
		t.Fatalf("KS.WAIT 0 is answered %q while the hold stands", reply)
	}
	holder.Unlock(name, g)
	wantNext(t, unbounded, int64(1), "unlocked")
}

func waitStandsInNoLine(t *testing.T, s *stage.Stage) {
	const name = "wait:no line"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	c := observe(t, s, 1, name, "0")
	s.Client(t, 2).ExpectFields(name, map[string]any{"waiters": int64(0)})
	s.AwaitLine(t, name, 0)
	holder.Unlock(name, g)
	wantNext(t, c, int64(1), "unlocked")
	if owner := s.Owner(t, name); owner != "" {
		t.Fatalf("%q has the lock that was only waited for", owner)
	}
	holder.Unlock(name, holder.Lock(name, "NOWAIT"))
}
