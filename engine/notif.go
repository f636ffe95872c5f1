package engine

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// notifPrefix and the instance make the channel that keeps the notif connection subscribed while
	// nobody waits for a value.
	notifPrefix = "ks/notif:"

	// notifPatience is how long a message on a notif channel waits for the bell of the same RESOLVE
	// on the inbox, which says more: in which database, and that our places are struck.
	notifPatience = 3 * time.Millisecond

	// subscribeMost is how many channels one SUBSCRIBE names.
	subscribeMost = 1000
)

// notifications follows the notif channels of the names for whose value somebody here waits: other
// programs (redis-memolock's processes) store values too, and publish there. A message is a bell.
type notifications struct {
	e   *Engine
	sub subscription

	mu      sync.Mutex
	names   map[string]string // channel -> name, of all channels in use
	dirty   map[string]bool   // channels whose use changed
	current *redis.PubSub     // while subscribed
	wake    chan struct{}     // capacity one
}

func newNotifications(e *Engine, client *redis.Client) *notifications {
	n := &notifications{
		e:     e,
		names: map[string]string{},
		dirty: map[string]bool{},
		wake:  make(chan struct{}, 1),
	}
	n.sub = subscription{
		client:  client,
		channel: notifPrefix + e.instance,
		up:      n.up,
		down:    n.down,
		message: n.message,
		added:   n.added,
		name:    "memo notifications",
		log:     e.log,
	}
	return n
}

// changed says that name got its first memo caller, or lost its last. What it is at the time is looked
// up later: calls may overtake one another.
func (n *notifications) changed(channel, name string) {
	n.mu.Lock()
	n.names[channel] = name
	n.dirty[channel] = true
	n.mu.Unlock()
	n.nudge()
}

func (n *notifications) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// follow subscribes and unsubscribes as callers come and go, until ctx ends. It alone decides, so that
// the order of the commands is that of its decisions.
func (n *notifications) follow(ctx context.Context) {
	subscribed := map[string]bool{}
	var on *redis.PubSub
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			return
		}
		ps, channels := n.take()
		if ps != on {
			clear(subscribed)
			on = ps
		}
		if on == nil {
			continue // up marks all channels dirty
		}
		var join, part []string
		for channel, used := range channels {
			switch {
			case used && !subscribed[channel]:
				join = append(join, channel)
				subscribed[channel] = true
			case !used && subscribed[channel]:
				part = append(part, channel)
				delete(subscribed, channel)
			}
		}
		inBatches(join, func(some []string) { _ = on.Subscribe(ctx, some...) }) // its reader sees failures
		inBatches(part, func(some []string) { _ = on.Unsubscribe(ctx, some...) })
	}
}

func inBatches(channels []string, do func([]string)) {
	for len(channels) > 0 {
		some := min(len(channels), subscribeMost)
		do(channels[:some])
		channels = channels[some:]
	}
}

// take returns the changed channels, and whether each is in use.
func (n *notifications) take() (*redis.PubSub, map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	channels := make(map[string]bool, len(n.dirty))
	for channel := range n.dirty {
		used := n.e.waiters.hasMemoCallers(n.names[channel])
		channels[channel] = used
		if !used {
			delete(n.names, channel)
		}
	}
	if n.current != nil {
		clear(n.dirty)
	}
	return n.current, channels
}

func (n *notifications) up(ps *redis.PubSub) {
	n.mu.Lock()
	n.current = ps
	for channel := range n.names {
		n.dirty[channel] = true
	}
	n.mu.Unlock()
	n.nudge()
}

func (n *notifications) down(error) {
	n.mu.Lock()
	n.current = nil
	n.mu.Unlock()
}

// added: from now on no message is missed; one before that may have been.
func (n *notifications) added(channel string) { n.look(channel) }

// message looks for the value a little later. The payload is not taken for the value: channels know no
// databases, so it may be another's.
func (n *notifications) message(channel, _ string) {
	time.AfterFunc(notifPatience, func() { n.look(channel) })
}

func (n *notifications) look(channel string) {
	n.mu.Lock()
	name, ok := n.names[channel]
	n.mu.Unlock()
	if !ok {
		return
	}
	for _, l := range n.e.waiters.memoLines(name) {
		n.e.fetch(l, false)
	}
}
