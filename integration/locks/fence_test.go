package locks

import (
	"strconv"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// now is Redis's clock in microseconds.
func clockOf(t testing.TB, s *stage.Stage) int64 {
	t.Helper()
	words := s.Words(t, "TIME")
	seconds, _ := strconv.ParseInt(words[0], 10, 64)
	micros, _ := strconv.ParseInt(words[1], 10, 64)
	return seconds*1_000_000 + micros
}

func TestAFenceIsTheLargestOfThree(t *testing.T) {
	stage.OnOneAndThree(t, "fences", func(t *testing.T, proxies int) {
		s := stage.Setup{Proxies: proxies}.Start(t)
		next := func(proxy int, name string) int64 {
			t.Helper()
			c := s.Client(t, proxy)
			defer c.Close()
			g := c.Lock(name)
			c.Unlock(name, g)
			return g.Fence
		}
		// Redis's clock, on every proxy.
		for i := range s.Proxies {
			before := clockOf(t, s)
			if n, after := next(i, "clock:1"), clockOf(t, s); n < before || n > after {
				t.Errorf("the fence %d was given between %d and %d", n, before, after)
			}
		}
		// One more than the last, which is ahead of the clock.
		ahead := clockOf(t, s) + 3600_000_000
		s.Must(t, "HSET", stage.KeyOf("ahead:1", "fence"), "n", strconv.FormatInt(ahead, 10))
		for i := range s.Proxies {
			if n := next(i, "ahead:1"); n != ahead+int64(i)+1 {
				t.Errorf("the fence %d follows %d", n, ahead+int64(i))
			}
		}
		last := ahead + int64(len(s.Proxies))
		// One more than this proxy has ever seen, when the data is lost and the clock is behind.
		s.Must(t, "FLUSHALL")
		seen := len(s.Proxies) - 1 // it gave the last
		if n := next(seen, "ahead:1"); n != last+1 {
			t.Errorf("with the data lost the fence %d follows %d", n, last)
		}
		s.Must(t, "FLUSHALL")
		if n := next(seen, "another:1"); n != last+2 {
			t.Errorf("with the data lost the fence of another name %d follows %d", n, last+1)
		}
		fresh := stage.Dial(t, harness.StartProxy(t, s.Redis)) // has seen nothing
		s.Must(t, "FLUSHALL")
		before := clockOf(t, s)
		g := fresh.Lock("ahead:1")
		if after := clockOf(t, s); g.Fence < before || g.Fence > after {
			t.Errorf("a new proxy's fence %d was given between %d and %d", g.Fence, before, after)
		}
		fresh.Unlock("ahead:1", g)
	})
}
