package locks

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

var mlockScenes = []stage.Scene{
	{Name: "KS.MLOCK takes all with one token", Run: mlockTakesAll},
	{Name: "KS.MLOCK takes nothing if it does not get all", Run: mlockTakesNothing},
	{Name: "KS.MLOCK has one deadline", Run: mlockDeadline},
	{Name: "KS.MLOCK stands in one line at a time in byte order", Run: mlockByteOrder},
	{Name: "KS.MLOCK begins all leases at the end", Run: mlockLeases},
	{Name: "KS.MLOCK lets all go at a hang-up or an error", Run: mlockLetsGo},
	{Name: "callers of KS.MLOCK never deadlock", Run: mlockNeverDeadlocks},
	{Name: "a holder that asks for another lock waits for a lease or its WAIT", Run: mlockByAHolder},
	{Name: "KS.MLOCK refuses what it can't mean", Run: mlockRefuses},
}

// mlockArgs are the arguments of KS.MLOCK.
func mlockArgs(names []string, options ...string) []string {
	return slices.Concat([]string{"KS.MLOCK", strconv.Itoa(len(names))}, names, options)
}

// mlock gets all locks at once or fails the test.
func mlock(t testing.TB, c *stage.Client, names []string, options ...string) (token string, fences []int64) {
	t.Helper()
	token, fences, err := asGrants(c.Call(mlockArgs(names, options...)...), len(names))
	if err != nil {
		t.Fatalf("%q: %v", names, err)
	}
	return token, fences
}

// nextGrants waits for the reply of a KS.MLOCK of n names.
func nextGrants(t testing.TB, c *stage.Client, n int) (token string, fences []int64) {
	t.Helper()
	token, fences, err := asGrants(c.Next(), n)
	if err != nil {
		t.Fatal(err)
	}
	return token, fences
}

// munlock releases n locks.
func munlock(t testing.TB, c *stage.Client, n int, names []string, token string) {
	t.Helper()
	args := append([]string{"KS.MUNLOCK", strconv.Itoa(len(names))}, names...)
	c.Expect(int64(n), append(args, token)...)
}

// asGrants reads the reply of a KS.MLOCK of n names.
func asGrants(value any, n int) (token string, fences []int64, err error) {
	all, ok := value.([]any)
	if !ok || len(all) != n+1 {
		return "", nil, fmt.Errorf("reply %#v is no grant of %d locks", value, n)
	}
	token, _ = all[0].(string)
	for _, f := range all[1:] {
		fence, _ := f.(int64)
		if fence <= 0 || token == "" {
			return "", nil, fmt.Errorf("reply %#v is no grant of %d locks", value, n)
		}
		fences = append(fences, fence)
	}
	return token, fences, nil
}

func mlockTakesAll(t *testing.T, s *stage.Stage) {
	names := []string{"all:c", "all:a", "all:b"}
	var last []int64
	for i := range s.Proxies {
		c, other := s.Client(t, i), s.Client(t, i+1)
		token, fences := mlock(t, c, names, "EX", "60")
		for j, name := range names {
			if owner := s.Owner(t, name); owner != token {
				t.Fatalf("%s is %q's, granted to %q", name, owner, token)
			}
			other.ExpectFields(name, map[string]any{"held": int64(1), "fence": fences[j]})
			if last != nil && fences[j] <= last[j] {
				t.Errorf("fences %v after %v", fences, last)
			}
			other.Expect(nil, "KS.LOCK", name, "NOWAIT")
		}
		last = fences
		munlock(t, other, 0, names, "somebody else's")
		munlock(t, other, 2, names[:2], token)
		other.Expect(int64(1), "KS.EXTEND", names[2], token, "EX", "30")
		munlock(t, other, 1, names, token) // the third
		munlock(t, other, 0, names, token)
		c.Unlock(names[0], c.Lock(names[0], "NOWAIT"))
	}
	// A token of the caller's, asked with again elsewhere, and the end of a session.
	first, second := s.Client(t, 0), s.Client(t, 1)
	_, fences := mlock(t, first, names, "TOKEN", "of mlock")
	if token, again := mlock(t, second, names, "TOKEN", "of mlock", "EX", "60"); token != "of mlock" || !slices.Equal(again, fences) {
		t.Fatalf("asked again: %s %v, at first %v", token, again, fences)
	}
	munlock(t, second, 3, names, "of mlock")
	mlock(t, first, names, "SESSION")
	first.Close()
	for _, name := range names {
		s.AwaitFree(t, name)
	}
}

func mlockTakesNothing(t *testing.T, s *stage.Stage) {
	names := []string{"nothing:c", "nothing:b", "nothing:a"}
	for i := range s.Proxies {
		for held := range names {
			holder, c := s.Client(t, i), s.Client(t, i+1)
			g := holder.Lock(names[held])
			c.Expect(nil, mlockArgs(names, "NOWAIT")...)
			awaitNothingOf(t, s, names, names[held])
			began := time.Now()
			c.Expect(nil, mlockArgs(names, "WAIT", "60")...)
			if d := time.Since(began); d < 60*time.Millisecond {
				t.Errorf("WAIT 60 gave up after %v", d)
			}
			stage.Took(t, "KS.MLOCK WAIT 60", began, 60*time.Millisecond, time.Second)
			awaitNothingOf(t, s, names, names[held])
			holder.Unlock(names[held], g)
		}
	}
}

// awaitNothingOf waits until nobody has or waits for the names, but for one that is held.
func awaitNothingOf(t testing.TB, s *stage.Stage, names []string, held string) {
	t.Helper()
	for _, name := range names {
		if name != held {
			s.AwaitFree(t, name)
		}
		s.AwaitLine(t, name, 0)
	}
}

// mlockDeadline: half of WAIT is spent on the first lock, so there is half for the second.
func mlockDeadline(t *testing.T, s *stage.Stage) {
	const wait = 2 * time.Second
	names := []string{"deadline:a", "deadline:b"}
	holder, c := s.Client(t, 0), s.Client(t, 1)
	a, b := holder.Lock(names[0]), holder.Lock(names[1])
	asked := time.Now()
	c.Ask(mlockArgs(names, "WAIT", fmt.Sprint(wait.Milliseconds()))...)
	s.AwaitLine(t, names[0], 1)
	time.Sleep(wait/2 - time.Since(asked)) // it is what is tested: time goes by
	holder.Unlock(names[0], a)
	s.AwaitLine(t, names[1], 1)
	second := time.Now()
	wantNext(t, c, nil, "it did not get all")
	if d := time.Since(asked); d < wait {
		t.Errorf("WAIT %v gave up after %v", wait, d)
	}
	if d := time.Since(second); d > wait-wait/10 {
		t.Errorf("after %v for the first lock it waited %v for the second, of %v for both", second.Sub(asked), d, wait)
	}
	holder.Unlock(names[1], b)
	awaitNothingOf(t, s, names, "")
}

func mlockByteOrder(t *testing.T, s *stage.Stage) {
	names := []string{"order:é", "order:a", "order:B"} // in bytes: B, a, é
	sorted := []string{names[2], names[1], names[0]}
	for i := range s.Proxies {
		holder, c := s.Client(t, 0), s.Client(t, i)
		var grants []stage.Grant
		for _, name := range sorted {
			grants = append(grants, holder.Lock(name))
		}
		c.Ask(mlockArgs(names, "EX", "60")...)
		for j, name := range sorted {
			token := s.AwaitLine(t, name, 1)[0]
			for _, later := range sorted[j+1:] {
				s.AwaitLine(t, later, 0)
			}
			for _, earlier := range sorted[:j] {
				if owner := s.Owner(t, earlier); owner != token {
					t.Fatalf("waiting for %s, %s is %q's, not %q's", name, earlier, owner, token)
				}
			}
			holder.Unlock(name, grants[j])
		}
		token, _ := nextGrants(t, c, 3)
		munlock(t, c, 3, names, token)
	}
}

// mlockLeases: what was had first has as long to live as what was had last.
func mlockLeases(t *testing.T, s *stage.Stage) {
	names := []string{"leases:a", "leases:b"}
	holder, c := s.Client(t, 0), s.Client(t, 1)
	b := holder.Lock(names[1])
	c.Ask(mlockArgs(names, "PX", "60000")...)
	s.AwaitLine(t, names[1], 1)
	time.Sleep(300 * time.Millisecond) // it is what is tested: time goes by
	holder.Unlock(names[1], b)
	token, _ := nextGrants(t, c, 2)
	ttls := s.Must(t, "EVAL", "return {redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[2])}", "2",
		stage.KeyOf(names[0], "lock"), stage.KeyOf(names[1], "lock")).([]any)
	// Redis 7.0 reads the clock for every command of a script.
	if apart := ttls[1].(int64) - ttls[0].(int64); max(apart, -apart) > 100 {
		t.Errorf("the leases end in %v ms and %v ms", ttls[0], ttls[1])
	}
	wantTTL(t, s, stage.KeyOf(names[0], "lock"), 60_000)
	munlock(t, c, 2, names, token)
}

// mlockRenews, where a lease is a second, waits longer than that for the second lock.
func mlockRenews(t *testing.T, s *stage.Stage) {
	names := []string{"renews:a", "renews:b"}
	holder, c := s.Client(t, 0), s.Client(t, 1)
	b := holder.Lock(names[1], "EX", "60")
	for _, options := range [][]string{{"PX", "30000"}, {"SESSION"}, {"PX", "300"}} {
		c.Ask(mlockArgs(names, options...)...)
		token := s.AwaitLine(t, names[1], 1)[0]
		for began := time.Now(); time.Since(began) < 2*sessionTTL; time.Sleep(20 * time.Millisecond) { // the next look
			if owner := s.Owner(t, names[0]); owner != token {
				t.Fatalf("%q: what KS.MLOCK had is %q's after %v of waiting", options, owner, time.Since(began))
			}
		}
		holder.Unlock(names[1], b)
		nextGrants(t, c, 2)
		if options[0] != "PX" || options[1] != "300" {
			munlock(t, c, 2, names, token)
		} else { // not renewed any more
			s.AwaitFree(t, names[0])
			s.AwaitFree(t, names[1])
		}
		b = holder.Lock(names[1], "EX", "60")
	}
	holder.Unlock(names[1], b)
}

func mlockLetsGo(t *testing.T, s *stage.Stage) {
	names := []string{"letsgo:a", "letsgo:b", "letsgo:c"}
	holder := s.Client(t, 0)
	c := holder.Lock(names[2])
	for i := range s.Proxies {
		for _, end := range []func(*stage.Client){
			func(c *stage.Client) { c.Close() },
			func(c *stage.Client) { c.Reset(t) },
			func(c *stage.Client) { c.CloseWrite(t) },
		} {
			leaving := s.Client(t, i)
			leaving.Ask(mlockArgs(names)...)
			s.AwaitLine(t, names[2], 1)
			began := time.Now()
			end(leaving)
			awaitNothingOf(t, s, names, names[2])
			stage.Took(t, "nothing was left of a KS.MLOCK whose caller hung up", began, 100*time.Millisecond, 2*time.Second)
		}
		// The second can't be had.
		odd := s.Client(t, i)
		s.Must(t, "RPUSH", stage.KeyOf("letsgo:0", "lock"), "no string")
		odd.ExpectRefusal("WRONGTYPE ", mlockArgs([]string{"letsgo:0", "letsgo:/"})...)
		odd.ExpectRefusal("WRONGTYPE ", mlockArgs([]string{"letsgo:0", "letsgo:/"}, "NOWAIT")...)
		awaitNothingOf(t, s, []string{"letsgo:/"}, "")
		s.Must(t, "DEL", stage.KeyOf("letsgo:0", "lock"))
	}
	holder.Unlock(names[2], c)
}

func mlockNeverDeadlocks(t *testing.T, s *stage.Stage) {
	const callers, rounds = 6, 15
	var all sync.WaitGroup
	var mu sync.Mutex
	holder := ""
	for i := range callers {
		c := s.Client(t, i)
		random := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			for range rounds {
				names := []string{"never:a", "never:b", "never:c"}
				random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				reply, err := c.TryCall(mlockArgs(names, "EX", "60")...)
				value, _, _ := stage.ParseOne(reply)
				token, _, bad := asGrants(value, len(names))
				if err != nil || bad != nil {
					t.Errorf("%q: %v, %v", names, err, bad)
					return
				}
				mu.Lock()
				if holder != "" {
					t.Errorf("%s was granted while %s holds", token, holder)
				}
				holder = token
				mu.Unlock()
				time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond) // works
				mu.Lock()
				holder = ""
				mu.Unlock()
				if reply, err := c.TryCall(slices.Concat([]string{"KS.MUNLOCK", "3"}, names, []string{token})...); reply != ":3\r\n" {
					t.Errorf("KS.MUNLOCK answers %q, %v", reply, err)
					return
				}
			}
		})
	}
	began := time.Now()
	all.Wait()
	stage.Took(t, fmt.Sprintf("%d callers had three locks %d times, in any order", callers, rounds), began, time.Second, 18*time.Second)
}

// mlockByAHolder: two that hold what the other wants.
func mlockByAHolder(t *testing.T, s *stage.Stage) {
	for i := range s.Proxies {
		x, y := []string{"holder:x"}, []string{"holder:y"}
		a, b := s.Client(t, i), s.Client(t, i+1)
		lease := a.Lock(x[0], "EX", "60")
		g := b.Lock(y[0], "EX", "60")
		b.Expect(nil, mlockArgs(x, "WAIT", "40")...) // its WAIT
		a.Ask(mlockArgs(y, "EX", "60")...)
		s.AwaitLine(t, y[0], 1)
		b.Ask(mlockArgs(x, "EX", "60")...)
		s.AwaitLine(t, x[0], 1) // a circle
		s.Client(t, i).Expect(int64(1), "KS.EXTEND", x[0], lease.Token, "PX", "100")
		ends := time.Now().Add(100 * time.Millisecond)
		token, _ := nextGrants(t, b, 1)
		stage.Took(t, "a lease ended, and with it a circle", ends, 100*time.Millisecond, 2*time.Second)
		b.Unlock(y[0], g)
		munlock(t, b, 1, x, token)
		token, _ = nextGrants(t, a, 1)
		munlock(t, a, 1, y, token)
		// Waiting for oneself is told here, too.
		mine := a.Lock(x[0], "SESSION")
		a.ExpectRefusal("DEADLOCK ", mlockArgs([]string{"holder:w", x[0]})...)
		a.Unlock(x[0], mine)
		awaitNothingOf(t, s, []string{"holder:w", x[0], y[0]}, "")
	}
}

func mlockRefuses(t *testing.T, s *stage.Stage) {
	c := s.Client(t, 0)
	c.ExpectRefusal("ERR syntax error", "KS.MLOCK", "2", "twice:a", "twice:a")
	c.ExpectRefusal("ERR syntax error", "KS.MLOCK", "3", "twice:a", "twice:b", "twice:a", "NOWAIT")
	c.ExpectRefusal("ERR syntax error", "KS.MLOCK", "3", "twice:a", "twice:b")
	c.ExpectRefusal("ERR syntax error", "KS.MUNLOCK", "2", "twice:a", "twice:a", "token")
	c.ExpectRefusal("ERR numkeys should be greater than 0", "KS.MLOCK", "0", "twice:a")
	many := make([]string, 129)
	for i := range many {
		many[i] = fmt.Sprint("many:", i)
	}
	c.ExpectRefusal("ERR numkeys should be at most 128", mlockArgs(many)...)
	token, _ := mlock(t, c, many[:128])
	munlock(t, c, 128, many[:128], token)
	awaitNothingOf(t, s, []string{"twice:a", "twice:b"}, "")
}
