package locks

import (
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// SESSION locks outlive trouble that is over before their TTL is.
func TestSessionLocksOutliveTroubles(t *testing.T) {
	const ttl, name = 6 * time.Second, "outlives:1"
	for _, what := range troubles {
		t.Run(what.name, func(t *testing.T) {
			t.Parallel()
			s := stage.Setup{Redis: what.redis, Args: []string{"--ks-lock-ttl", "6000"}}.Start(t)
			holder := s.Client(t, 0)
			holder.Call("HELLO", "3")
			g := holder.Lock(name, "SESSION")
			w := s.Join(t, 1, name)
			lease := func() time.Duration {
				left, _ := s.Must(t, "PTTL", stage.KeyOf(name, "lock")).(int64)
				return time.Duration(left) * time.Millisecond
			}
			stage.Eventually(t, "a renewal is due soon", func() bool { return lease() < ttl*3/4 })
			began := time.Now()
			for time.Since(began) < ttl/3 { // until a renewal was due: it is what is tested
				end := what.begin(t, s)
				if !what.brief {
					time.Sleep(ttl / 3)
				}
				end()
			}
			if d := time.Since(began); d > ttl*2/3 {
				t.Skipf("this machine is too busy: the trouble took %v, with a TTL of %v", d, ttl)
			}
			left := lease()
			stage.Eventually(t, "it is renewed", func() bool { return lease() > max(left, ttl*3/4) })
			holder.Expect("PONG", "PING") // a push would come first
			if owner := s.Owner(t, name); owner != g.Token {
				t.Fatalf("the lock is %q's", owner)
			}
			// The waiter waits still, or has been told Redis's own words.
			if reply, err := w.ReplyWithin(time.Nanosecond); err == nil && (what.refuses == "" || !strings.HasPrefix(reply, "-"+what.refuses+" ")) {
				t.Fatalf("the waiter was answered %q", reply)
			} else if err == nil {
				t.Logf("the waiter was told %q", reply)
				holder.Unlock(name, g)
				s.AwaitFree(t, name)
				return
			}
			holder.Unlock(name, g)
			w.Granted()
			w.Unlocks()
			s.AwaitFree(t, name)
		})
	}
}

// Those that could not be renewed in time are told, and are free afterwards.
func TestSessionLocksThatTroubleOutlivesAreTold(t *testing.T) {
	for _, what := range troubles {
		if what.refuses == "" || what.refuses == "OOM" { // a full Redis renews
			continue
		}
		t.Run(what.name, func(t *testing.T) {
			t.Parallel()
			s := stage.Setup{Redis: what.redis, Args: sessions.Args}.Start(t)
			const name = "outlived:1"
			holder := s.Client(t, 0)
			holder.Call("HELLO", "3")
			g := holder.Lock(name, "SESSION")
			end := what.begin(t, s)
			began := time.Now()
			if push := holder.Reply(t); push != pushOf("ks.lost", name, g.Token) {
				t.Fatalf("the push is %q", push)
			}
			stage.Took(t, "the loss was told", began, sessionTTL, sessionTTL+3*time.Second)
			end()
			c := s.Client(t, 1)
			next, err := stage.AsGrant(c.Call("KS.LOCK", name, "WAIT", "10000"))
			if err != nil || next.Fence <= g.Fence {
				t.Fatalf("afterwards: %+v after %+v, %v", next, g, err)
			}
			c.Unlock(name, next)
			holder.Expect(int64(0), "KS.UNLOCK", name, g.Token)
		})
	}
}
