package engine

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// Somebody waits, is gone and another comes while the connection is not there.
func TestAFeedThatIsUsedAgainBeforeTheConnectionIsBackIsFollowed(t *testing.T) {
	e := &Engine{waiters: newWaiters(2)}
	for _, f := range []feed{{"likes/notif:kristoff", false}, {"likes/locknotif:kristoff", true}} {
		e.waiters.named = map[string]map[uint64]*waiter{}
		n := newNotifications(e, nil)
		first := e.waiters.add(line{name: name}, "one", true)
		n.changed(f, name)
		n.take()
		e.waiters.remove(first)
		n.changed(f, name)
		n.take()
		second := e.waiters.add(line{name: name}, "two", true)
		n.changed(f, name)
		n.up(&redis.PubSub{})
		if _, feeds := n.take(); !feeds[f] {
			t.Errorf("%+v is not subscribed to, but waited for", f)
		}
		if got, ok := n.name(f); !ok || got != name {
			t.Errorf("a message on %+v is for %q", f, got)
		}
		e.waiters.remove(second)
	}
}
