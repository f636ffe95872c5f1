package locks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func heldByOne(t *testing.T, s *stage.Stage) {
	const name = "held:1"
	a, b := s.Client(t, 0), s.Client(t, 1)
	first := a.Lock(name)
	if first.Token == "" || first.Fence <= 0 {
		t.Fatalf("the grant is %+v", first)
	}
	w := s.Join(t, 1, name)
	b.Expect(nil, "KS.LOCK", name, "NOWAIT")
	b.Expect(int64(0), "KS.UNLOCK", name, "somebody else's")
	w.Silent("the lock is held")
	b.Unlock(name, first) // any connection to any proxy may
	second := w.Granted()
	if second.Fence <= first.Fence || second.Token == first.Token {
		t.Fatalf("%+v after %+v", second, first)
	}
	a.Expect(int64(0), "KS.UNLOCK", name, first.Token)
	w.Unlocks()
	a.Expect(int64(0), "KS.UNLOCK", name, second.Token)
	if third := a.Lock(name, "PX", "100"); third.Fence <= second.Fence {
		t.Fatalf("%+v after %+v", third, second)
	}
}

func notGrantedInTime(t *testing.T, s *stage.Stage) {
	const name = "intime:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	for proxy := range s.Proxies {
		c := s.Client(t, proxy)
		began := time.Now()
		if reply := c.Do(t, "KS.LOCK", name, "NOWAIT"); reply != "*-1\r\n" {
			t.Errorf("NOWAIT answers %q", reply)
		}
		stage.Took(t, "NOWAIT", began, 0, time.Second)
		began = time.Now()
		if reply := c.Do(t, "KS.LOCK", name, "WAIT", "80"); reply != "*-1\r\n" {
			t.Errorf("WAIT answers %q", reply)
		}
		if d := time.Since(began); d < 80*time.Millisecond {
			t.Errorf("WAIT 80 gave up after %v", d)
		}
		stage.Took(t, "WAIT 80", began, 80*time.Millisecond, time.Second)
	}
	s.AwaitLine(t, name, 0)
	holder.Unlock(name, g)
	s.AwaitFree(t, name)
}

func firstComeFirstServed(t *testing.T, s *stage.Stage) {
	const name, waiters = "fifo:1", 20
	holder := s.Client(t, 0)
	g := holder.Lock(name)
	var all []*stage.Client
	for i := range waiters {
		c := s.Client(t, i%len(s.Proxies))
		c.Ask("KS.LOCK", name) // none waits for the one before
		all = append(all, c)
	}
	line := s.AwaitLine(t, name, waiters)
	outcomes := stage.Collect(all)
	for i, token := range line {
		holder.Unlock(name, g)
		o := <-outcomes
		next, err := stage.AsGrant(o.Reply)
		if o.Err != nil || err != nil {
			t.Fatalf("waiter %d: %v, %v", i, o.Err, err)
		}
		if next.Token != token || next.Fence <= g.Fence {
			t.Fatalf("grant %d is %+v after %+v, first in line was %s", i, next, g, token)
		}
		holder, g = o.Client, next
	}
	holder.Unlock(name, g)
	s.AwaitFree(t, name)
}

func leaseRunsOut(t *testing.T, s *stage.Stage) {
	const name = "runout:1"
	for proxy := range s.Proxies { // where the first in line is
		asked := time.Now()
		s.Client(t, 0).Lock(name, "PX", "400")
		ends := time.Now().Add(400 * time.Millisecond)
		first := s.Join(t, proxy, name)
		second := s.Join(t, (proxy+1)%len(s.Proxies), name)
		g := first.Granted()
		stage.Took(t, "the first in line got a lease that ran out", ends, 100*time.Millisecond, time.Second)
		if lasted := time.Since(asked); lasted < 400*time.Millisecond {
			t.Errorf("granted %v after a lease of 400 ms was asked for", lasted)
		}
		second.Silent("the lock went to the first in line")
		first.Unlock(name, g)
		second.Granted()
		second.Unlocks()
	}
}

// shorterByHandOff has a lease that is shorter than the claim window, and one that is longer: the
// second in line is rung at the claim, or at the hand-off.
func shorterByHandOff(t *testing.T, s *stage.Stage) {
	for i, lease := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond} {
		name := fmt.Sprint("shorter:by hand-off", i)
		holder := s.Client(t, 0)
		g := holder.Lock(name, "EX", "3600")
		brief := s.Join(t, 1, name, "PX", fmt.Sprint(lease.Milliseconds()))
		last := s.Join(t, 2, name)
		holder.Unlock(name, g)
		brief.Granted()
		ends := time.Now().Add(lease)
		last.Granted() // brief never gives it back
		stage.Took(t, fmt.Sprintf("the next was granted a lease of %v that followed one of an hour", lease), ends, 100*time.Millisecond, time.Second)
		last.Unlocks()
	}
}

func shorterByExtend(t *testing.T, s *stage.Stage) {
	const name = "shorter:2"
	g := s.Client(t, 0).Lock(name, "EX", "3600")
	first, second := s.Join(t, 1, name), s.Join(t, 2, name)
	s.Client(t, 2).Expect(int64(1), "KS.EXTEND", name, g.Token, "PX", "300")
	ends := time.Now().Add(300 * time.Millisecond)
	stage.InTurn(t, []*stage.Waiter{first}, g.Fence)
	stage.Took(t, "the next was granted a lease of an hour that was cut to 300 ms", ends, 100*time.Millisecond, time.Second)
	stage.InTurn(t, []*stage.Waiter{second}, g.Fence)
}

func extendByOwner(t *testing.T, s *stage.Stage) {
	const name = "extend:1"
	c := s.Client(t, 0)
	g := c.Lock(name, "PX", "5000")
	c.Expect(int64(0), "KS.EXTEND", name, "somebody else's", "EX", "100")
	if ttl := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64); ttl > 5000 {
		t.Errorf("a stranger has extended the lease to %d ms", ttl)
	}
	s.Client(t, 1).Expect(int64(1), "KS.EXTEND", name, g.Token, "EX", "100")
	if ttl := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64); ttl < 60_000 || ttl > 100_000 {
		t.Errorf("extended by 100 s the lease ends in %d ms", ttl)
	}
	c.ExpectRefusal("ERR wrong number of arguments for 'ks.extend' command", "KS.EXTEND", name, g.Token)
	c.ExpectRefusal("ERR syntax error", "KS.EXTEND", name, g.Token, "IN", "100")
	c.ExpectRefusal("ERR value is not an integer or out of range", "KS.EXTEND", name, g.Token, "PX", "soon")
	c.ExpectRefusal("ERR invalid expire time in 'ks.extend' command", "KS.EXTEND", name, g.Token, "PX", "0")
	c.Unlock(name, g)
	c.Expect(int64(0), "KS.EXTEND", name, g.Token, "EX", "100")
	p := c.Generate(name, "PX", "5000")
	c.Expect(int64(1), "KS.EXTEND", name, p.Token, "EX", "100")
	c.Unlock(name, p)
}

func unlockWithoutToken(t *testing.T, s *stage.Stage) {
	const name = "untoken:1"
	c, other := s.Client(t, 0), s.Client(t, 0)
	c.Expect(int64(0), "KS.UNLOCK", name)
	c.Lock(name)
	c.Lock(name + "0")
	w := s.Join(t, 1, name)
	other.Expect(int64(0), "KS.UNLOCK", name)
	c.Expect("OK", "SELECT", "1")
	c.Expect(int64(0), "KS.UNLOCK", name)
	c.Expect("OK", "SELECT", "0")
	c.Expect(int64(1), "KS.UNLOCK", name)
	w.Granted()
	c.Expect(int64(0), "KS.UNLOCK", name) // it is not his any more
	w.Expect(int64(1), "KS.UNLOCK", name) // granted after a wait
	c.Expect(int64(1), "KS.UNLOCK", name+"0")
	g := c.Lock(name)
	c.Expect(int64(1), "KS.UNLOCK", name, g.Token)
	c.Expect(int64(0), "KS.UNLOCK", name)
}

func status(t *testing.T, s *stage.Stage) {
	const name = "status:1"
	look := s.Client(t, 2)
	names := make([]string, 0, 8)
	for i, f := range look.Call("KS.STATUS", name).([]any) {
		if i%2 == 0 {
			names = append(names, f.(string))
		}
	}
	for _, field := range []string{"held", "ttl", "owner", "fence", "waiters", "value", "error"} {
		if !slices.Contains(names, field) {
			t.Errorf("KS.STATUS tells %q, not %q", names, field)
		}
	}
	look.ExpectFields(name, map[string]any{
		"held": int64(0), "ttl": int64(-2), "owner": "", "waiters": int64(0), "value": int64(0), "error": int64(0),
	})

	holder := s.Client(t, 0)
	holder.Expect("OK", "CLIENT", "SETNAME", "holder-of-status")
	g := holder.Lock(name, "EX", "100")
	leaving := s.Join(t, 0, name)
	w := s.Join(t, 1, name)
	got := look.Status(name)
	owner, _ := got["owner"].(string)
	if !strings.Contains(owner, holder.LocalAddr().String()) || !strings.Contains(owner, "holder-of-status") {
		t.Errorf("owner is %q, who asked is holder-of-status at %v", owner, holder.LocalAddr())
	}
	if ttl, _ := got["ttl"].(int64); ttl < 60_000 || ttl > 100_000 {
		t.Errorf("ttl is %d", ttl)
	}
	look.ExpectFields(name, map[string]any{"held": int64(1), "fence": g.Fence, "waiters": int64(2)})
	for field, value := range got {
		if text, ok := value.(string); ok && strings.Contains(text, g.Token) {
			t.Errorf("%s shows the token: %q", field, text)
		}
	}
	for proxy := range s.Proxies { // any proxy tells the same
		s.Client(t, proxy).ExpectFields(name, map[string]any{"held": int64(1), "fence": g.Fence, "owner": owner, "waiters": int64(2)})
	}
	leaving.Close()
	s.AwaitLine(t, name, 1)
	look.ExpectFields(name, map[string]any{"waiters": int64(1)})
	holder.Unlock(name, g)
	w.Granted()
	owner, _ = look.Status(name)["owner"].(string)
	if !strings.Contains(owner, w.LocalAddr().String()) {
		t.Errorf("owner is %q, who was granted after a wait is at %v", owner, w.LocalAddr())
	}
	w.Unlocks()
	s.Must(t, "SET", stage.KeyOf(name, "lock"), "of a library that names no TTL")
	look.ExpectFields(name, map[string]any{"held": int64(1), "ttl": int64(-1), "owner": ""})
	s.Must(t, "DEL", stage.KeyOf(name, "lock"))

	p := holder.Generate(name)
	holder.Expect(int64(1), "KS.RESOLVE", name, p.Token, "v", "PX", "5000")
	look.ExpectFields(name, map[string]any{"held": int64(0), "ttl": int64(-2), "owner": "", "value": int64(1), "error": int64(0)})
	holder.Expect(int64(1), "DEL", name)
	p = holder.Generate(name)
	holder.Expect(int64(1), "KS.REJECT", name, p.Token, "no such thing", "PX", "1000")
	look.ExpectFields(name, map[string]any{"held": int64(0), "value": int64(0), "error": int64(1)})
	stage.Eventually(t, "the error is forgotten", func() bool { return look.Status(name)["error"] == int64(0) })
	look.ExpectRefusal("ERR wrong number of arguments for 'ks.status' command", "KS.STATUS")
	look.ExpectRefusal("ERR invalid lock name", "KS.STATUS", "some/lock:name")
}

func apart(t *testing.T, s *stage.Stage) {
	a, b := s.Client(t, 0), s.Client(t, 1)
	first := a.Lock("apart:1")
	b.Unlock("apart:2", b.Lock("apart:2"))
	b.Expect("OK", "SELECT", "3")
	inThree := b.Lock("apart:1")
	b.Unlock("apart:1", inThree)
	a.Expect(int64(0), "KS.UNLOCK", "apart:1", inThree.Token)
	a.Unlock("apart:1", first)
	for _, name := range []string{"", "apart/lock:1", "apart/fence", "x/lockwaiting:1:2", strings.Repeat("n", 65<<10)} {
		a.ExpectRefusal("ERR invalid lock name", "KS.LOCK", name)
	}
	for i := range 3 { // bells name the database
		c := s.Client(t, i)
		c.Expect("OK", "SELECT", strconv.Itoa(i))
		g := c.Lock("apart:3")
		w := s.Client(t, (i+1)%3)
		w.Expect("OK", "SELECT", strconv.Itoa(i))
		w.Ask("KS.LOCK", "apart:3")
		c.Expect("OK", "SELECT", strconv.Itoa(i))
		stage.Eventually(t, "the caller stands in line", func() bool {
			return c.Call("LLEN", "apart/lockwaiting:3") == int64(1)
		})
		c.Unlock("apart:3", g)
		next, err := stage.AsGrant(w.Next())
		if err != nil {
			t.Fatal(err)
		}
		w.Unlock("apart:3", next)
	}
}
