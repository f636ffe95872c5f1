package locks

import (
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestStale(t *testing.T) {
	onOneAndThree(t, []stage.Scene{
		{Name: "a value is served after its TTL while one makes the next", Run: staleWhileOneGenerates},
		{Name: "a generator that ends is followed by one, the others are served", Run: staleWhenGeneratorsEnd},
		{Name: "a value that was deleted or replaced is not served", Run: staleNotAfterDeletion},
		{Name: "what ends the stale value", Run: staleEnds},
	})
}

// past makes a value whose TTL has ended, and which is stale for a minute.
func past(t *testing.T, s *stage.Stage, name, value string) {
	t.Helper()
	c := s.Client(t, 0)
	defer c.Close()
	c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, value, "PX", "300", "STALE", "60000")
	stage.WantValue(t, c.Call("KS.MEMO", name), value)
	awaitNoValue(t, s, name)
}

func awaitNoValue(t *testing.T, s *stage.Stage, name string) {
	t.Helper()
	stage.Eventually(t, "the value's TTL has ended", func() bool { return s.Must(t, "GET", name) == nil })
}

func wantStale(t *testing.T, reply any, value string) {
	t.Helper()
	if pair, ok := reply.([]any); !ok || !slices.Equal(pair, []any{"stale", value}) {
		t.Fatalf("KS.MEMO answers %#v, want the stale value %q", reply, value)
	}
}

// wantsStale asks on all proxies.
func wantsStale(t *testing.T, s *stage.Stage, name, value string) {
	t.Helper()
	for i := range s.Proxies {
		c := s.Client(t, i)
		for _, options := range [][]string{nil, {"NOWAIT"}, {"WAIT", "60000"}, {"SESSION"}, {"TOKEN", "mine"}} {
			wantStale(t, c.Call(append([]string{"KS.MEMO", name}, options...)...), value)
		}
		c.Close()
	}
}

func staleWhileOneGenerates(t *testing.T, s *stage.Stage) {
	for round, value := range []string{"v", "", "binary\x00\r\n 1 2 "} {
		name := fmt.Sprintf("stale:served%d", round)
		past(t, s, name, value)
		generator := s.Client(t, len(s.Proxies)-1)
		g := generator.Generate(name, "NOWAIT")
		wantsStale(t, s, name, value)
		s.AwaitLine(t, name, 0)
		lock := s.Join(t, 0, name) // who wants the lock waits for it
		wantsStale(t, s, name, value)
		generator.Expect(int64(1), "KS.RESOLVE", name, g.Token, "next", "PX", "300")
		lock.Granted()
		lock.Unlocks()
		stage.WantValue(t, s.Client(t, 0).Call("KS.MEMO", name), "next")
		awaitNoValue(t, s, name)
		g = generator.Generate(name)
		generator.Expect(nil, "KS.MEMO", name, "NOWAIT") // the copy went with the RESOLVE without STALE
		generator.Unlock(name, g)
	}
}

func staleWhenGeneratorsEnd(t *testing.T, s *stage.Stage) {
	const name = "stale:ends"
	past(t, s, name, "v")
	c := s.Client(t, 0)
	c.Unlock(name, c.Generate(name))
	session := s.Client(t, 0)
	session.Generate(name, "SESSION")
	wantsStale(t, s, name, "v")
	session.Close()
	s.AwaitFree(t, name)
	c.Generate(name, "PX", "200")
	wantsStale(t, s, name, "v")
	s.AwaitFree(t, name)
	g := c.Generate(name)
	c.Expect(int64(1), "KS.REJECT", name, g.Token, "no")
	g = c.Generate(name)
	wantsStale(t, s, name, "v")
	c.Expect(int64(1), "KS.REJECT", name, g.Token, "no", "EX", "60")
	c.ExpectRefusal("MEMOERR no", "KS.MEMO", name)
	c.Expect(int64(1), "DEL", stage.KeyOf(name, "error"))
	g = c.Generate(name)
	c.Expect(nil, "KS.MEMO", name, "NOWAIT")
	c.Unlock(name, g)

	// While KS.LOCK holds nobody can generate, and nobody waits.
	past(t, s, name, "v")
	holder := s.Client(t, 0)
	h := holder.Lock(name)
	wantsStale(t, s, name, "v")
	holder.Unlock(name, h)
	c.Expect(int64(1), "KS.FORGET", name)
}

func staleNotAfterDeletion(t *testing.T, s *stage.Stage) {
	const name = "stale:deleted"
	c := s.Client(t, 0)
	copied := stage.KeyOf(name, "stale")
	unserved := func(how string) {
		t.Helper()
		g := c.Generate(name)
		for i := range s.Proxies {
			if got := s.Client(t, i).Call("KS.MEMO", name, "NOWAIT"); got != nil {
				t.Fatalf("%s: KS.MEMO answers %#v", how, got)
			}
		}
		c.Unlock(name, g)
	}
	c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v", "EX", "60", "STALE", "60000")
	c.Expect(int64(1), "DEL", name)
	unserved("deleted, and asked for")
	if n := s.Must(t, "EXISTS", copied); n != int64(0) {
		t.Error("the copy of a deleted value is kept")
	}

	for how, change := range map[string][]string{
		"deleted": {"DEL", name}, "replaced": {"SET", name, "another", "PX", "100"}, "kept": {"SET", name, "another"},
		"lengthened": {"PEXPIRE", name, "100000"}, "shortened": {"PEXPIRE", name, "1"},
	} {
		c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v", "PX", "400", "STALE", "60000")
		s.Must(t, change...)
		stage.Eventually(t, how+": the copy is dropped", func() bool { return s.Must(t, "EXISTS", copied) == int64(0) })
		s.Must(t, "DEL", name)
		unserved(how)
	}
}

func staleEnds(t *testing.T, s *stage.Stage) {
	const name = "stale:over"
	c := s.Client(t, 0)
	c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v", "PX", "200", "STALE", "100")
	stage.Eventually(t, "both times are over", func() bool { return s.Must(t, "EXISTS", name, stage.KeyOf(name, "stale")) == int64(0) })
	g := c.Generate(name)
	c.Expect(nil, "KS.MEMO", name, "NOWAIT")
	c.Unlock(name, g)

	past(t, s, name, "v")
	c.Expect(int64(1), "KS.FORGET", name)
	g = c.Generate(name)
	c.Expect(nil, "KS.MEMO", name, "NOWAIT")

	// Waiting for a value that was made without a copy before it; then others are served the new one.
	w := s.JoinMemo(t, len(s.Proxies)-1, name)
	c.Expect(int64(1), "KS.RESOLVE", name, g.Token, "w", "PX", "1", "STALE", "60000")
	stage.WantValue(t, w.Next(), "w")
	awaitNoValue(t, s, name)
	g = c.Generate(name)
	wantsStale(t, s, name, "w")
	c.Expect(int64(1), "KS.FORGET", name) // revokes, too
	c.Expect(int64(0), "KS.RESOLVE", name, g.Token, "x")
	s.AwaitFree(t, name)
}

func TestStaleValuesOutliveTheProxyThatStoredThem(t *testing.T) {
	t.Parallel()
	s := stage.Setup{}.Start(t)
	const name = "stale:killed"
	c := s.Client(t, 0)
	c.Expect(int64(1), "KS.RESOLVE", name, c.Generate(name).Token, "v", "PX", "300", "STALE", "60000")
	s.Proxies[0].Signal(t, syscall.SIGKILL)
	awaitNoValue(t, s, name)
	other := s.Client(t, 1)
	g := other.Generate(name)
	wantStale(t, other.Call("KS.MEMO", name), "v")
	other.Expect(int64(1), "KS.RESOLVE", name, g.Token, "w", "EX", "60")
	stage.WantValue(t, other.Call("KS.MEMO", name), "w")
}
