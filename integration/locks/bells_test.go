package locks

import (
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// scripts counts what the lock commands have done in Redis: each is a script.
func scripts(t testing.TB, s *stage.Stage) int64 {
	t.Helper()
	info := s.Must(t, "INFO", "commandstats").(string)
	var sum int64
	for _, command := range []string{"eval", "evalsha"} {
		if _, rest, found := strings.Cut(info, "cmdstat_"+command+":calls="); found {
			n, err := harness.InfoField("\nn:"+strings.SplitN(rest, ",", 2)[0]+"\r\n", "n")
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// Who waits is woken when it is its turn: nobody asks in between but now and then, and an unlock
// wakes the next owner and the new first in line, whatever number stands behind.
func TestNobodyPollsAndOnlyTheNextIsWoken(t *testing.T) {
	stage.OnOneAndThree(t, "forty waiters", func(t *testing.T, proxies int) {
		const name, waiters = "woken:1", 40
		s := stage.Setup{Proxies: proxies}.Start(t)
		holder := s.Client(t, 0)
		g := holder.Lock(name, "EX", "3600")
		var line []*stage.Waiter
		for i := range waiters {
			line = append(line, s.Join(t, i, name, "EX", "3600"))
		}
		// What they ask on their own grows with time: once in 4 s at most, the first in line in a second.
		rechecks := func(since time.Time) int64 {
			return int64(float64(waiters)*(time.Since(since).Seconds()/3.9+0.5)) + 2*int64(time.Since(since).Seconds()) + 5
		}
		began, before := time.Now(), scripts(t, s)
		time.Sleep(2 * time.Second) // it is what is tested: time goes by
		n := scripts(t, s) - before
		t.Logf("%d waiters ran %d scripts in %v", waiters, n, time.Since(began).Round(time.Millisecond))
		if n > rechecks(began) {
			t.Errorf("%d waiters ran %d scripts in %v: they poll", waiters, n, time.Since(began))
		}

		const handOffs = 20
		began, before = time.Now(), scripts(t, s)
		for _, w := range line[:handOffs] {
			holder.Unlock(name, g)
			holder, g = w.Client, w.Granted()
		}
		n = scripts(t, s) - before
		t.Logf("%d hand-offs ran %d scripts in %v", handOffs, n, time.Since(began).Round(time.Millisecond))
		// The release, the claim, and the look of the new first in line.
		if most := 3*handOffs + rechecks(began); n > most {
			t.Errorf("%d hand-offs to a line of %d ran %d scripts, want %d at most: others are woken", handOffs, waiters, n, most)
		}
	})
}
