package locks

import (
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

func TestRedisRestarts(t *testing.T) {
	for _, how := range []struct {
		name  string
		keeps bool
		stop  func(*stage.Stage, *testing.T)
	}{
		{"with its data", true, func(s *stage.Stage, t *testing.T) { s.ShutDown(t) }},
		{"without its data", false, func(s *stage.Stage, t *testing.T) { s.Kill(t) }},
		{"with an append-only file, killed", true, func(s *stage.Stage, t *testing.T) { s.Kill(t) }},
	} {
		stage.OnOneAndThree(t, how.name, func(t *testing.T, proxies int) {
			var config []string
			if how.keeps {
				config = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			s := stage.Setup{Proxies: proxies, Redis: config}.Start(t)
			const name = "restart:1"
			holder, session := s.Client(t, 0), s.Client(t, 1)
			g := holder.Lock(name, "EX", "60")
			other := session.Lock("restart:2", "SESSION")
			clients := []*stage.Client{holder, session, s.Client(t, 0)} // the last is idle
			clients[2].Expect("PONG", "PING")
			clients = append(clients,
				s.Join(t, 0, name).Client, s.Join(t, 1, name).Client,
				s.Join(t, 0, "restart:2").Client, s.Join(t, 1, "restart:2").Client)
			promise := s.Client(t, 1).Generate("restart:3")
			clients = append(clients, s.JoinMemo(t, 0, "restart:3").Client)

			how.stop(s, t)
			stopped := time.Now()
			for _, c := range clients {
				c.AwaitEnd(t)
			}
			stage.Took(t, "all clients were closed", stopped, 0, 2*time.Second)
			s.Again(t)
			began := time.Now()

			var next stage.Grant
			if how.keeps {
				stage.Eventually(t, "the lock can be given back", func() bool {
					c := s.Proxy(1).Dial(t)
					c.Send(t, harness.Command("KS.UNLOCK", name, g.Token))
					reply, err := c.ReplyWithin(harness.Patience)
					if err == nil && reply == ":0\r\n" {
						t.Fatal("the lock is gone")
					}
					return err == nil && reply == ":1\r\n"
				})
			}
			for proxy := range s.Proxies {
				var c *stage.Client
				c, next = s.LockAgain(t, proxy, name)
				stage.Took(t, "a call was served after the restart", began, 2*time.Second, 6*time.Second)
				if next.Fence <= g.Fence {
					t.Errorf("fence %d after %d", next.Fence, g.Fence)
				}
				g = next
				c.Unlock(name, g)
			}
			// Bells ring again, on both proxies.
			c := s.Client(t, 0)
			g = c.Lock(name)
			waiters := []*stage.Waiter{s.Join(t, 1, name), s.Join(t, 0, name)}
			for _, w := range waiters {
				s.AwaitListeners(t, s.InstanceOf(t, w), 1)
			}
			c.Unlock(name, g)
			stage.InTurn(t, waiters, g.Fence)
			// What the session had is released (its connection is closed), and the waiters are gone.
			c, next = s.LockAgain(t, 0, "restart:2", "WAIT", "5000")
			if next.Fence <= other.Fence {
				t.Errorf("fence %d after %d", next.Fence, other.Fence)
			}
			c.Unlock("restart:2", next)
			c.Expect(int64(btoi(how.keeps)), "KS.RESOLVE", "restart:3", promise.Token, "v", "PX", "100")
			for _, n := range []string{name, "restart:2", "restart:3"} {
				s.AwaitLine(t, n, 0)
			}
			s.NothingLeft(t)
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
	stage.OnOneAndThree(t, "all data is flushed", flushed)
}

func flushed(t *testing.T, proxies int) {
	s := stage.Setup{Proxies: proxies}.Start(t)
	const name = "flush:1"
	holder := s.Client(t, 0)
	g := holder.Lock(name, "EX", "3600")
	waiters := []*stage.Waiter{s.Join(t, 0, name), s.Join(t, 1, name)}
	s.Must(t, "FLUSHALL")
	began := time.Now()
	outcomes := stage.Collect([]*stage.Client{waiters[0].Client, waiters[1].Client})
	for range waiters { // no order is promised: there is none any more
		o := <-outcomes
		next, err := stage.AsGrant(o.Reply)
		if o.Err != nil || err != nil {
			t.Fatal(o.Err, err)
		}
		if next.Fence <= g.Fence {
			t.Fatalf("fence %d after %d", next.Fence, g.Fence)
		}
		g = next
		o.Unlock(name, g)
	}
	stage.Took(t, "both waiters had the lock after FLUSHALL", began, 2*time.Second, 8*time.Second)
	// Not even a proxy that has seen no fence at all begins anew.
	s.Must(t, "FLUSHALL")
	fresh := stage.Dial(t, harness.StartProxy(t, s.Redis))
	next := fresh.Lock(name)
	if next.Fence <= g.Fence {
		t.Fatalf("fence %d after %d", next.Fence, g.Fence)
	}
	fresh.Unlock(name, next)
	s.NothingLeft(t)
}
