package engine

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestWhoIsNeverFoundIsLookedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m moved
		looks := func(span time.Duration, found bool) (n int) {
			for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if m.due() {
					n++
					m.found(found)
				}
			}
			return n
		}
		for _, c := range []struct {
			span  time.Duration
			found bool
			want  int
		}{
			{time.Minute, true, 20},       // every 3 s
			{10 * time.Minute, false, 13}, // after 3, 6, 12, ... 60 s
			{3 * time.Minute, true, 3},    // it may come and go
			{10 * time.Minute, true, 152}, // after five minutes every 3 s again
		} {
			if n := looks(c.span, c.found); n != c.want {
				t.Errorf("%d looks in %v, want %d", n, c.span, c.want)
			}
		}
	})
}

// The address leads to another Redis from now on; the one of before lives on and takes writes.
func TestOwnConnectionsFollowTheCallers(t *testing.T) {
	there, here := onMiniredis(t), onMiniredis(t)
	var addr atomic.Value
	addr.Store(there.mini.Addr())
	e := there.engine(func(c *Config) {
		c.NewClient = func() *redis.Client {
			return there.client(func(o *redis.Options) {
				o.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, "tcp", addr.Load().(string))
				}
			})
		}
	})
	there.eventually("the inbox is up", func() bool { return e.inbox.stands() != nil && e.notif.sub.stands() != nil })
	mustUnlock(t, e, there.session(0), name, mustLock(t, e, there.session(0), Request{Name: name}).Token)

	addr.Store(here.mini.Addr())
	holder, s := here.engine(), here.session(0)
	held := mustLock(t, holder, s, Request{Name: name})
	e.moved.mu.Lock()
	e.moved.next = time.Time{} // as if some seconds had passed
	e.moved.mu.Unlock()
	next := lockAsync(t.Context(), e, here.session(0), Request{Name: name})
	here.eventually("both proxies listen here", func() bool { return len(here.mini.PubSubChannels("ks/*")) == 4 })
	for range 3 {
		if _, err := e.Lock(t.Context(), here.session(0), Request{Name: name, Wait: 20}); !errors.Is(err, ErrNotGranted) {
			t.Fatal(err)
		}
	}
	here.inLine(queue, 1) // who gave up has left the line where it stood in it
	mustUnlock(t, holder, s, name, held.Token)
	got := wait(t, next)
	if got.err != nil {
		t.Fatal(got.err)
	}
	mustUnlock(t, e, here.session(0), name, got.Token)
}
