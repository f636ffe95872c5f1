package locks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func heldByOne(t *testing.T, s *stage) {
	const name = "held:1"
	a, b := s.client(t, 0), s.client(t, 1)
	first := a.lock(name)
	if first.token == "" || first.fence <= 0 {
		t.Fatalf("the grant is %+v", first)
	}
	w := s.join(t, 1, name)
	b.want(nil, "KS.LOCK", name, "NOWAIT")
	b.want(int64(0), "KS.UNLOCK", name, "somebody else's")
	w.silent("the lock is held")
	b.unlock(name, first) // any connection to any proxy may
	second := w.granted()
	if second.fence <= first.fence || second.token == first.token {
		t.Fatalf("%+v after %+v", second, first)
	}
	a.want(int64(0), "KS.UNLOCK", name, first.token)
	w.unlocks()
	a.want(int64(0), "KS.UNLOCK", name, second.token)
	if third := a.lock(name, "PX", "100"); third.fence <= second.fence {
		t.Fatalf("%+v after %+v", third, second)
	}
}

func notGrantedInTime(t *testing.T, s *stage) {
	const name = "intime:1"
	holder := s.client(t, 0)
	g := holder.lock(name)
	for proxy := range s.proxies {
		c := s.client(t, proxy)
		began := time.Now()
		if reply := c.Do(t, "KS.LOCK", name, "NOWAIT"); reply != "*-1\r\n" {
			t.Errorf("NOWAIT answers %q", reply)
		}
		took(t, "NOWAIT", began, 0, time.Second)
		began = time.Now()
		if reply := c.Do(t, "KS.LOCK", name, "WAIT", "80"); reply != "*-1\r\n" {
			t.Errorf("WAIT answers %q", reply)
		}
		if d := time.Since(began); d < 80*time.Millisecond {
			t.Errorf("WAIT 80 gave up after %v", d)
		}
		took(t, "WAIT 80", began, 80*time.Millisecond, time.Second)
	}
	s.awaitLine(t, name, 0)
	holder.unlock(name, g)
	s.awaitFree(t, name)
}

func firstComeFirstServed(t *testing.T, s *stage) {
	const name, waiters = "fifo:1", 20
	holder := s.client(t, 0)
	g := holder.lock(name)
	var all []*client
	for i := range waiters {
		c := s.client(t, i%len(s.proxies))
		c.ask("KS.LOCK", name) // none waits for the one before
		all = append(all, c)
	}
	line := s.awaitLine(t, name, waiters)
	outcomes := collect(all)
	for i, token := range line {
		holder.unlock(name, g)
		o := <-outcomes
		next, err := asGrant(o.reply)
		if o.err != nil || err != nil {
			t.Fatalf("waiter %d: %v, %v", i, o.err, err)
		}
		if next.token != token || next.fence <= g.fence {
			t.Fatalf("grant %d is %+v after %+v, first in line was %s", i, next, g, token)
		}
		holder, g = o.client, next
	}
	holder.unlock(name, g)
	s.awaitFree(t, name)
}

func leaseRunsOut(t *testing.T, s *stage) {
	const name = "runout:1"
	for proxy := range s.proxies { // where the first in line is
		asked := time.Now()
		s.client(t, 0).lock(name, "PX", "400")
		ends := time.Now().Add(400 * time.Millisecond)
		first := s.join(t, proxy, name)
		second := s.join(t, (proxy+1)%len(s.proxies), name)
		g := first.granted()
		took(t, "the first in line got a lease that ran out", ends, 100*time.Millisecond, time.Second)
		if lasted := time.Since(asked); lasted < 400*time.Millisecond {
			t.Errorf("granted %v after a lease of 400 ms was asked for", lasted)
		}
		second.silent("the lock went to the first in line")
		first.unlock(name, g)
		second.granted()
		second.unlocks()
	}
}

// shorterByHandOff has a lease that is shorter than the claim window, and one that is longer: the
// second in line is rung at the claim, or at the hand-off.
func shorterByHandOff(t *testing.T, s *stage) {
	for i, lease := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond} {
		name := fmt.Sprint("shorter:by hand-off", i)
		holder := s.client(t, 0)
		g := holder.lock(name, "EX", "3600")
		brief := s.join(t, 1, name, "PX", fmt.Sprint(lease.Milliseconds()))
		last := s.join(t, 2, name)
		holder.unlock(name, g)
		brief.granted()
		ends := time.Now().Add(lease)
		last.granted() // brief never gives it back
		took(t, fmt.Sprintf("the next was granted a lease of %v that followed one of an hour", lease), ends, 100*time.Millisecond, time.Second)
		last.unlocks()
	}
}

func shorterByExtend(t *testing.T, s *stage) {
	const name = "shorter:2"
	g := s.client(t, 0).lock(name, "EX", "3600")
	first, second := s.join(t, 1, name), s.join(t, 2, name)
	s.client(t, 2).want(int64(1), "KS.EXTEND", name, g.token, "PX", "300")
	ends := time.Now().Add(300 * time.Millisecond)
	inTurn(t, []*waiter{first}, g.fence)
	took(t, "the next was granted a lease of an hour that was cut to 300 ms", ends, 100*time.Millisecond, time.Second)
	inTurn(t, []*waiter{second}, g.fence)
}

func extendByOwner(t *testing.T, s *stage) {
	const name = "extend:1"
	c := s.client(t, 0)
	g := c.lock(name, "PX", "5000")
	c.want(int64(0), "KS.EXTEND", name, "somebody else's", "EX", "100")
	if ttl := s.must(t, "PTTL", keyOf(name, "lock")).(int64); ttl > 5000 {
		t.Errorf("a stranger has extended the lease to %d ms", ttl)
	}
	s.client(t, 1).want(int64(1), "KS.EXTEND", name, g.token, "EX", "100")
	if ttl := s.must(t, "PTTL", keyOf(name, "lock")).(int64); ttl < 60_000 || ttl > 100_000 {
		t.Errorf("extended by 100 s the lease ends in %d ms", ttl)
	}
	c.wantRefusal("ERR wrong number of arguments for 'ks.extend' command", "KS.EXTEND", name, g.token)
	c.wantRefusal("ERR syntax error", "KS.EXTEND", name, g.token, "IN", "100")
	c.wantRefusal("ERR value is not an integer or out of range", "KS.EXTEND", name, g.token, "PX", "soon")
	c.wantRefusal("ERR invalid expire time in 'ks.extend' command", "KS.EXTEND", name, g.token, "PX", "0")
	c.unlock(name, g)
	c.want(int64(0), "KS.EXTEND", name, g.token, "EX", "100")
	p := c.generate(name, "PX", "5000")
	c.want(int64(1), "KS.EXTEND", name, p.token, "EX", "100")
	c.unlock(name, p)
}

func unlockWithoutToken(t *testing.T, s *stage) {
	const name = "untoken:1"
	c, other := s.client(t, 0), s.client(t, 0)
	c.want(int64(0), "KS.UNLOCK", name)
	c.lock(name)
	c.lock(name + "0")
	w := s.join(t, 1, name)
	other.want(int64(0), "KS.UNLOCK", name)
	c.want("OK", "SELECT", "1")
	c.want(int64(0), "KS.UNLOCK", name)
	c.want("OK", "SELECT", "0")
	c.want(int64(1), "KS.UNLOCK", name)
	w.granted()
	c.want(int64(0), "KS.UNLOCK", name) // it is not his any more
	w.want(int64(1), "KS.UNLOCK", name) // granted after a wait
	c.want(int64(1), "KS.UNLOCK", name+"0")
	g := c.lock(name)
	c.want(int64(1), "KS.UNLOCK", name, g.token)
	c.want(int64(0), "KS.UNLOCK", name)
}

// fields reads the reply of KS.STATUS.
func (c *client) fields(name string) map[string]any {
	c.t.Helper()
	list, _ := c.do("KS.STATUS", name).([]any)
	if len(list) == 0 || len(list)%2 != 0 {
		c.t.Fatalf("KS.STATUS answers %#v", list)
	}
	all := map[string]any{}
	for i := 0; i < len(list); i += 2 {
		field, _ := list[i].(string)
		all[field] = list[i+1]
	}
	return all
}

// wantFields checks some of the fields of KS.STATUS.
func (c *client) wantFields(name string, want map[string]any) {
	c.t.Helper()
	got := c.fields(name)
	for field, value := range want {
		if got[field] != value {
			c.t.Errorf("KS.STATUS %s: %s is %#v, want %#v", name, field, got[field], value)
		}
	}
}

func status(t *testing.T, s *stage) {
	const name = "status:1"
	look := s.client(t, 2)
	names := make([]string, 0, 8)
	for i, f := range look.do("KS.STATUS", name).([]any) {
		if i%2 == 0 {
			names = append(names, f.(string))
		}
	}
	for _, field := range []string{"held", "ttl", "owner", "fence", "waiters", "value", "error"} {
		if !slices.Contains(names, field) {
			t.Errorf("KS.STATUS tells %q, not %q", names, field)
		}
	}
	look.wantFields(name, map[string]any{
		"held": int64(0), "ttl": int64(-2), "owner": "", "waiters": int64(0), "value": int64(0), "error": int64(0),
	})

	holder := s.client(t, 0)
	holder.want("OK", "CLIENT", "SETNAME", "holder-of-status")
	g := holder.lock(name, "EX", "100")
	leaving := s.join(t, 0, name)
	w := s.join(t, 1, name)
	got := look.fields(name)
	owner, _ := got["owner"].(string)
	if !strings.Contains(owner, holder.LocalAddr().String()) || !strings.Contains(owner, "holder-of-status") {
		t.Errorf("owner is %q, who asked is holder-of-status at %v", owner, holder.LocalAddr())
	}
	if ttl, _ := got["ttl"].(int64); ttl < 60_000 || ttl > 100_000 {
		t.Errorf("ttl is %d", ttl)
	}
	look.wantFields(name, map[string]any{"held": int64(1), "fence": g.fence, "waiters": int64(2)})
	for field, value := range got {
		if text, ok := value.(string); ok && strings.Contains(text, g.token) {
			t.Errorf("%s shows the token: %q", field, text)
		}
	}
	leaving.Close()
	s.awaitLine(t, name, 1)
	look.wantFields(name, map[string]any{"waiters": int64(1)})
	holder.unlock(name, g)
	w.granted()
	owner, _ = look.fields(name)["owner"].(string)
	if !strings.Contains(owner, w.LocalAddr().String()) {
		t.Errorf("owner is %q, who was granted after a wait is at %v", owner, w.LocalAddr())
	}
	w.unlocks()

	p := holder.generate(name)
	holder.want(int64(1), "KS.RESOLVE", name, p.token, "v", "PX", "5000")
	look.wantFields(name, map[string]any{"held": int64(0), "ttl": int64(-2), "owner": "", "value": int64(1), "error": int64(0)})
	holder.want(int64(1), "DEL", name)
	p = holder.generate(name)
	holder.want(int64(1), "KS.REJECT", name, p.token, "no such thing", "PX", "1000")
	look.wantFields(name, map[string]any{"held": int64(0), "value": int64(0), "error": int64(1)})
	eventually(t, "the error is forgotten", func() bool { return look.fields(name)["error"] == int64(0) })
	look.wantRefusal("ERR wrong number of arguments for 'ks.status' command", "KS.STATUS")
	look.wantRefusal("ERR invalid lock name", "KS.STATUS", "some/lock:name")
}

func apart(t *testing.T, s *stage) {
	a, b := s.client(t, 0), s.client(t, 1)
	first := a.lock("apart:1")
	b.unlock("apart:2", b.lock("apart:2"))
	b.want("OK", "SELECT", "3")
	inThree := b.lock("apart:1")
	b.unlock("apart:1", inThree)
	a.want(int64(0), "KS.UNLOCK", "apart:1", inThree.token)
	a.unlock("apart:1", first)
	for _, name := range []string{"", "apart/lock:1", "apart/fence", "x/lockwaiting:1:2", strings.Repeat("n", 65<<10)} {
		a.wantRefusal("ERR invalid lock name", "KS.LOCK", name)
	}
	for i := range 3 { // bells name the database
		c := s.client(t, i)
		c.want("OK", "SELECT", strconv.Itoa(i))
		g := c.lock("apart:3")
		w := s.client(t, (i+1)%3)
		w.want("OK", "SELECT", strconv.Itoa(i))
		w.ask("KS.LOCK", "apart:3")
		c.want("OK", "SELECT", strconv.Itoa(i))
		eventually(t, "the caller stands in line", func() bool {
			return c.do("LLEN", "apart/lockwaiting:3") == int64(1)
		})
		c.unlock("apart:3", g)
		next, err := asGrant(w.next())
		if err != nil {
			t.Fatal(err)
		}
		w.unlock("apart:3", next)
	}
}
