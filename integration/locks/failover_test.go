package locks

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// replica starts a Redis that follows the stage's, and waits until it is in step.
func replica(t *testing.T, s *stage.Stage) *harness.Redis {
	r := harness.StartRedis(t)
	r.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(s.Port))
	stage.Eventually(t, "the replica follows", func() bool { return s.Must(t, "WAIT", "1", "100") == int64(1) })
	return r
}

// A replica that lacks only the last grant takes the place of Redis, at the same address.
func TestFailover(t *testing.T) {
	for _, how := range []struct {
		name  string
		over  func(t *testing.T, s *stage.Stage, to *harness.Redis)
		stays bool // connections that stand do
	}{
		{name: "Redis is killed", over: func(t *testing.T, s *stage.Stage, to *harness.Redis) {
			s.Kill(t)
			s.Moved(t, to)
		}},
		{name: "Redis follows, and closes no connection", stays: true, over: func(t *testing.T, s *stage.Stage, to *harness.Redis) {
			s.Must(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(to.Port))
			s.Moved(t, to)
		}},
	} {
		stage.OnOneAndThree(t, how.name, func(t *testing.T, proxies int) {
			s := stage.Setup{Proxies: proxies, Relayed: true}.Start(t)
			holder, session, waits := s.Client(t, 0), s.Client(t, 1), s.Client(t, 2)
			lease := holder.Lock("over:lease", "EX", "60")
			promise := holder.Generate("over:promise", "EX", "60")
			ended := session.Lock("over:session", "SESSION")
			s.JoinBy(waits, "KS.LOCK", "over:lease")
			to := replica(t, s)
			to.Do(t, "REPLICAOF", "NO", "ONE")
			late := holder.Lock("over:late", "EX", "60")
			how.over(t, s, to)
			for _, c := range []*stage.Client{holder, session, waits} {
				if !how.stays {
					c.AwaitEnd(t)
					continue
				}
				if c == waits { // it asks again within a second or so
					if words, refused := c.Next().(stage.Refusal); !refused || !strings.HasPrefix(string(words), "READONLY ") {
						t.Fatalf("the waiter was told %q", words)
					}
				}
				c.ExpectRefusal("READONLY", "KS.UNLOCK", "over:lease", lease.Token)
				c.Close()
			}

			// What was held for a lease is held.
			c := reached(t, s)
			c.Unlock("over:lease", lease)
			c.Expect(int64(1), "KS.RESOLVE", "over:promise", promise.Token, "v", "PX", "1000")
			began := time.Now()
			next := c.Lock("over:session")
			stage.Took(t, "what a SESSION had was released", began, time.Second, 5*time.Second)
			if next.Fence <= ended.Fence {
				t.Errorf("fence %d after %d", next.Fence, ended.Fence)
			}
			c.Unlock("over:session", next)
			if next = c.Lock("over:late"); next.Fence <= late.Fence { // what was lost is free
				t.Errorf("fence %d after %d", next.Fence, late.Fence)
			}
			c.Unlock("over:late", next)
			if next = c.Lock("over:lease"); next.Fence <= lease.Fence {
				t.Errorf("fence %d after %d", next.Fence, lease.Fence)
			}

			// All proxies are where their callers are as soon as one of those has to wait.
			began = time.Now()
			var waiters []*stage.Waiter
			for i := range proxies {
				w := s.Join(t, i, "over:lease")
				s.AwaitListeners(t, s.InstanceOf(t, w), 1)
				waiters = append(waiters, w)
			}
			stage.Took(t, "all inboxes were on the new Redis", began, 3*time.Second, 15*time.Second)
			began = time.Now()
			c.Unlock("over:lease", next)
			stage.InTurn(t, waiters, next.Fence)
			stage.Took(t, "all were granted the lock in turn", began, 10*time.Millisecond, 700*time.Millisecond) // a recheck takes 800 ms
			s.AwaitFree(t, "over:lease")
			s.NothingLeft(t)
		})
	}
}

// reached is a client of one of the proxies, once that serves again.
func reached(t *testing.T, s *stage.Stage) *stage.Client {
	var c *stage.Client
	stage.Eventually(t, "Redis is reached again", func() bool {
		c = s.Client(t, 1)
		reply, err := c.TryCall("PING")
		return err == nil && reply == "+PONG\r\n"
	})
	return c
}
