package locks

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// shutDown ends Redis in an orderly way, with its data saved.
func (s *stage) shutDown(t testing.TB) {
	t.Helper()
	c := s.Dial(t)
	c.Send(t, harness.Command("SHUTDOWN", "SAVE"))
	s.WaitExit(t, harness.Patience)
}

// again starts Redis anew, and the stranger comes back.
func (s *stage) again(t testing.TB) {
	t.Helper()
	s.Restart(t)
	s.welcomeStranger(t)
}

// lockAgain asks until a call is served: a new connection is closed without a
// word while Redis is away.
func (s *stage) lockAgain(t testing.TB, proxy int, name string, options ...string) (*client, grant) {
	t.Helper()
	var c *client
	var g grant
	eventually(t, "calls are served again", func() bool {
		c = dial(t, s.proxies[proxy])
		if _, err := c.Write([]byte(harness.Command(append([]string{"KS.LOCK", name}, options...)...))); err != nil {
			return false
		}
		reply, err := c.ReplyWithin(harness.Patience)
		if err != nil {
			return false
		}
		g, err = asGrant(parse(t, reply))
		return err == nil
	})
	return c, g
}

func TestRedisRestarts(t *testing.T) {
	for _, how := range []struct {
		name  string
		keeps bool
		stop  func(*stage, *testing.T)
	}{
		{"with its data", true, func(s *stage, t *testing.T) { s.shutDown(t) }},
		{"without its data", false, func(s *stage, t *testing.T) { s.Kill(t) }},
		{"with an append-only file, killed", true, func(s *stage, t *testing.T) { s.Kill(t) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			var config []string
			if how.keeps {
				config = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			s := setup{redis: config}.start(t)
			const name = "restart:1"
			holder, session := s.client(t, 0), s.client(t, 1)
			g := holder.lock(name, "EX", "60")
			other := session.lock("restart:2", "SESSION")
			clients := []*client{holder, session, s.client(t, 0)} // the last is idle
			clients[2].want("PONG", "PING")
			clients = append(clients,
				s.join(t, 0, name).client, s.join(t, 1, name).client,
				s.join(t, 0, "restart:2").client, s.join(t, 1, "restart:2").client)
			promise := s.client(t, 1).generate("restart:3")
			clients = append(clients, s.joinMemo(t, 0, "restart:3").client)

			how.stop(s, t)
			stopped := time.Now()
			for _, c := range clients {
				c.AwaitEnd(t)
			}
			took(t, "all clients were closed", stopped, 0, 2*time.Second)
			s.again(t)
			began := time.Now()

			var next grant
			if how.keeps {
				eventually(t, "the lock can be given back", func() bool {
					c := s.proxies[1].Dial(t)
					c.Send(t, harness.Command("KS.UNLOCK", name, g.token))
					reply, err := c.ReplyWithin(harness.Patience)
					if err == nil && reply == ":0\r\n" {
						t.Fatal("the lock is gone")
					}
					return err == nil && reply == ":1\r\n"
				})
			}
			for proxy := range s.proxies {
				var c *client
				c, next = s.lockAgain(t, proxy, name)
				took(t, "a call was served after the restart", began, 2*time.Second, 6*time.Second)
				if next.fence <= g.fence {
					t.Errorf("fence %d after %d", next.fence, g.fence)
				}
				g = next
				c.unlock(name, g)
			}
			// Bells ring again, on both proxies.
			c := s.client(t, 0)
			g = c.lock(name)
			waiters := []*waiter{s.join(t, 1, name), s.join(t, 0, name)}
			for _, w := range waiters {
				s.awaitListeners(t, s.instanceOf(t, w), 1)
			}
			c.unlock(name, g)
			inTurn(t, waiters, g.fence)
			// What the session had is released (its connection is closed), and the waiters are gone.
			c, next = s.lockAgain(t, 0, "restart:2", "WAIT", "5000")
			if next.fence <= other.fence {
				t.Errorf("fence %d after %d", next.fence, other.fence)
			}
			c.unlock("restart:2", next)
			c.want(int64(btoi(how.keeps)), "KS.RESOLVE", "restart:3", promise.token, "v", "PX", "100")
			for _, n := range []string{name, "restart:2", "restart:3"} {
				s.awaitLine(t, n, 0)
			}
			s.nothingLeft(t)
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestFlushedDataWhileHeldAndQueuedFor(t *testing.T) {
	t.Parallel()
	s := setup{}.start(t)
	const name = "flush:1"
	holder := s.client(t, 0)
	g := holder.lock(name, "EX", "3600")
	waiters := []*waiter{s.join(t, 0, name), s.join(t, 1, name)}
	s.must(t, "FLUSHALL")
	began := time.Now()
	outcomes := collect([]*client{waiters[0].client, waiters[1].client})
	for range waiters { // no order is promised: there is none any more
		o := <-outcomes
		next, err := asGrant(o.reply)
		if o.err != nil || err != nil {
			t.Fatal(o.err, err)
		}
		if next.fence <= g.fence {
			t.Fatalf("fence %d after %d", next.fence, g.fence)
		}
		g = next
		o.unlock(name, g)
	}
	took(t, "both waiters had the lock after FLUSHALL", began, 2*time.Second, 8*time.Second)
	// Not even a proxy that has seen no fence at all begins anew.
	s.must(t, "FLUSHALL")
	fresh := dial(t, harness.StartProxy(t, s.Redis))
	next := fresh.lock(name)
	if next.fence <= g.fence {
		t.Fatalf("fence %d after %d", next.fence, g.fence)
	}
	fresh.unlock(name, next)
	s.nothingLeft(t)
}
