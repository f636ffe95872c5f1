package locks

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// grantReply looks at the bytes of a grant, and at many tokens: 26 of 32 characters are 130 bits, if
// every place takes them all.
func grantReply(t *testing.T, s *stage.Stage) {
	reply := regexp.MustCompile(`^\*2\r\n\$26\r\n([A-Z2-7]{26})\r\n:[1-9][0-9]*\r\n$`)
	const grants, places = 400, 26
	seen := map[string]bool{}
	var used [places]map[byte]bool
	for i := range places {
		used[i] = map[byte]bool{}
	}
	for i := range grants {
		c := s.Client(t, i)
		for _, proto := range []string{"2", "3"} {
			c.Call("HELLO", proto)
			got := c.Do(t, "KS.LOCK", "reply:1", "NOWAIT")
			words := reply.FindStringSubmatch(got)
			if words == nil {
				t.Fatalf("RESP%s: a grant is %q", proto, got)
			}
			if seen[words[1]] {
				t.Fatalf("the token %s was granted twice", words[1])
			}
			seen[words[1]] = true
			for j := range places {
				used[j][words[1][j]] = true
			}
			c.Expect(int64(1), "KS.UNLOCK", "reply:1", words[1])
		}
		c.Close()
	}
	for i := range places {
		if n := len(used[i]); n < 24 { // of 32; less has a chance of one in millions
			t.Errorf("in %d tokens the character at %d is one of %d", 2*grants, i, n)
		}
	}
}

func waitZero(t *testing.T, s *stage.Stage) {
	const name = "unbounded:1"
	holder, bounded := s.Client(t, 0), s.Client(t, 1)
	g := holder.Lock(name)
	unbounded := s.Join(t, 2, name, "WAIT", "0")
	unnamed := s.Join(t, 1, name) // ks-lock-wait is 0
	bounded.Expect(nil, "KS.LOCK", name, "WAIT", "300")
	unbounded.Silent("WAIT 0 has no bound")
	unnamed.Silent("nor has ks-lock-wait 0")
	holder.Unlock(name, g)
	stage.InTurn(t, []*stage.Waiter{unbounded, unnamed}, g.Fence)
}

func nilReplies(t *testing.T, s *stage.Stage) {
	const name = "nil:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	for i, proto := range []struct{ version, null string }{{"2", "*-1\r\n"}, {"3", "_\r\n"}} {
		c := s.Client(t, i+1)
		c.Call("HELLO", proto.version)
		for _, call := range [][]string{{"KS.LOCK", name}, {"KS.MEMO", name}, {"KS.MLOCK", "2", name, "nil:2"}} {
			for _, option := range [][]string{{"NOWAIT"}, {"WAIT", "20"}, {"NOWAIT", "SESSION"}} {
				if got := c.Do(t, append(call, option...)...); got != proto.null {
					t.Errorf("RESP%s: %q %q answers %q", proto.version, call, option, got)
				}
			}
		}
	}
	holder.Unlock(name, g)
}

// newcomers ask without waiting, as fast as they can, while those in line get the lock one after the
// other: it is always held or handed to the next, so none of them may have it.
func newcomers(t *testing.T, s *stage.Stage) {
	for i, how := range []string{"a lease runs out", "unlocks"} {
		name := fmt.Sprint("newcomers:", i)
		holder := s.Client(t, 0)
		g := holder.Lock(name, "EX", "60")
		waiters := []*stage.Waiter{s.Join(t, 1, name), s.Join(t, 2, name), s.Join(t, 0, name)}
		stop := make(chan struct{})
		asked := make([]int, 4)
		var all sync.WaitGroup
		for j := range asked {
			c := s.Client(t, j)
			all.Go(func() {
				for ; ; asked[j]++ {
					select {
					case <-stop:
						return
					default:
					}
					if reply, err := c.TryCall("KS.LOCK", name, "NOWAIT"); err != nil || reply != "*-1\r\n" {
						t.Errorf("%s: a newcomer was answered %q, %v", how, reply, err)
						return
					}
				}
			})
		}
		if how == "unlocks" {
			holder.Unlock(name, g)
		} else {
			holder.Expect(int64(1), "KS.EXTEND", name, g.Token, "PX", "20")
		}
		for i, w := range waiters {
			if next := w.Granted(); next.Fence <= g.Fence {
				t.Errorf("%s: fence %d after %d", how, next.Fence, g.Fence)
			} else {
				g = next
			}
			if i == len(waiters)-1 {
				close(stop)
				all.Wait()
			}
			w.Unlocks()
		}
		t.Logf("%s: newcomers have asked %v times", how, asked)
	}
}

func handedOnAtOnce(t *testing.T, s *stage.Stage) {
	const name = "atonce:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	for i := range 10 {
		w := s.Join(t, i, name)
		// On one connection: nobody can be between them.
		holder.Send(t, harness.Command("KS.UNLOCK", name, g.Token)+harness.Command("GET", stage.KeyOf(name, "lock"))+
			harness.Command("KS.LOCK", name, "NOWAIT"))
		if n := holder.Next(); n != int64(1) {
			t.Fatalf("KS.UNLOCK answers %#v", n)
		}
		if owner := holder.Next(); owner != w.Token {
			t.Fatalf("after the unlock the lock is %#v's, %s waited for it", owner, w.Token)
		}
		if got := holder.Next(); got != nil {
			t.Fatalf("who has unlocked and asks again is answered %#v", got)
		}
		next := w.Granted()
		if next.Fence <= g.Fence {
			t.Fatalf("%+v after %+v", next, g)
		}
		holder, g = w.Client, next
	}
	holder.Unlock(name, g)
}

func leaseLengths(t *testing.T, s *stage.Stage) {
	const name = "lengths:1"
	for i, lease := range []struct {
		options []string
		ms      int64
	}{
		{nil, 30_000}, // ks-lock-ttl
		{[]string{"PX", "70000"}, 70_000},
		{[]string{"EX", "500"}, 500_000},
	} {
		c := s.Client(t, i)
		g := c.Lock(name, lease.options...)
		wantTTL(t, s, stage.KeyOf(name, "lock"), lease.ms)
		w := s.Join(t, i+1, name, lease.options...)
		c.Unlock(name, g)
		w.Granted() // after a wait it is as long
		wantTTL(t, s, stage.KeyOf(name, "lock"), lease.ms)
		w.Unlocks()
	}
	c := s.Client(t, 0)
	brief := time.Now()
	c.Lock(name, "PX", "200")
	s.AwaitFree(t, name) // nobody waits: Redis ends it by itself
	if d := time.Since(brief); d < 195*time.Millisecond {
		t.Errorf("a lease of 200 ms has ended after %v", d)
	}
	c.Unlock(name, c.Lock(name, "NOWAIT"))
}

// wantTTL checks that a key lives for up to ms, less what a busy machine takes to look.
func wantTTL(t testing.TB, s *stage.Stage, key string, ms int64) {
	t.Helper()
	if ttl, _ := s.Must(t, "PTTL", key).(int64); ttl > ms || ttl < ms-15_000 && ttl < ms/2 {
		t.Errorf("%s lives for %d ms, want %d", key, ttl, ms)
	}
}

func leaseSurvives(t *testing.T, s *stage.Stage) {
	const name = "survives:1"
	for i, end := range []func(*stage.Client){
		func(c *stage.Client) { c.Close() },
		func(c *stage.Client) { c.Reset(t) },
		func(c *stage.Client) { c.Ask("QUIT") },
		func(c *stage.Client) { c.Expect("RESET", "RESET"); c.Close() },
	} {
		holder := s.Client(t, i)
		g := holder.Lock(name, "EX", "60")
		end(holder)
		s.AwaitClosed(t, holder)
		other := s.Client(t, i+1)
		other.Expect(nil, "KS.LOCK", name, "WAIT", "30")
		if owner := s.Owner(t, name); owner != g.Token {
			t.Fatalf("after the end of its connection the lease is %q's", owner)
		}
		wantTTL(t, s, stage.KeyOf(name, "lock"), 60_000)
		other.Unlock(name, g)
	}
	s.AwaitFree(t, name)
}

func defaultLease(t *testing.T, s *stage.Stage) {
	c := s.Client(t, 0)
	for i, take := range []func(name string) stage.Grant{
		func(name string) stage.Grant { return c.Lock(name) },
		func(name string) stage.Grant { return c.Lock(name, "SESSION") },
		func(name string) stage.Grant { return c.Generate(name) },
		func(name string) stage.Grant {
			token, _ := mlock(t, c, []string{name})
			return stage.Grant{Token: token}
		},
	} {
		name := fmt.Sprint("default:", i)
		g := take(name)
		if ttl := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64); ttl > sessionTTL.Milliseconds() || ttl == -1 {
			t.Errorf("%d: the lease is %d ms, ks-lock-ttl is %v", i, ttl, sessionTTL)
		}
		c.Call("KS.UNLOCK", name, g.Token) // it may have run out
	}
}

// sessionBecomesLease: a SESSION lock that is asked for with PX is renewed no more.
func sessionBecomesLease(t *testing.T, s *stage.Stage) {
	const name, token = "becomes:1", "of a session"
	first, second := s.Client(t, 0), s.Client(t, 1)
	g := first.Lock(name, "SESSION", "TOKEN", token)
	for i, c := range []*stage.Client{second, first} {
		if got := c.Lock(name, "SESSION", "TOKEN", token); got != g {
			t.Fatalf("asked again: %+v, at first %+v", got, g)
		}
		began := time.Now()
		if got := c.Lock(name, "PX", "1500", "TOKEN", token); got != g {
			t.Fatalf("asked again: %+v, at first %+v", got, g)
		}
		s.AwaitFree(t, name) // both connections are there still
		stage.Took(t, "a lease that was a SESSION lock ended", began, 1500*time.Millisecond, 6*time.Second)
		if i == 0 {
			g = first.Lock(name, "SESSION", "TOKEN", token)
		}
	}
	first.Expect("PONG", "PING")
	second.Expect("PONG", "PING")
}

// loopsWithToken is a client with a short read time-out, as libraries have them: it asks again and
// again, on whatever connection, and keeps its place in line.
func loopsWithToken(t *testing.T, s *stage.Stage) {
	const name, token = "loop:1", "of the looping one"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	before := s.Join(t, 1, name)
	var loop *stage.Client
	for i := range 6 {
		if i%2 == 0 {
			loop = s.Client(t, i/2)
		}
		loop.Ask("KS.LOCK", name, "WAIT", strconv.Itoa(50+i), "TOKEN", token)
		if i == 0 {
			s.AwaitLine(t, name, 2)
			s.Join(t, 2, name).Close() // comes and goes
			s.AwaitLine(t, name, 2)
		}
		if got := loop.Next(); got != nil {
			t.Fatalf("WAIT answers %#v", got)
		}
		if i%2 == 1 {
			loop.Close()
		}
	}
	kept := s.Place(t, name, token)
	last := &stage.Waiter{Client: s.Client(t, 1), Name: name, Token: token}
	last.Ask("KS.LOCK", name, "WAIT", "0", "TOKEN", token)
	stage.Eventually(t, "the place is used again", func() bool { return s.Place(t, name, token) != kept })
	behind := s.Join(t, 0, name)
	if line := s.Line(t, name); len(line) != 3 || line[1] != token {
		t.Fatalf("the line is %q, want %s second", line, token)
	}
	holder.Unlock(name, g)
	stage.InTurn(t, []*stage.Waiter{before, last, behind}, g.Fence)
}
