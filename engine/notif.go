package engine

import (
	"context"
	"strings"
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

// feed is a channel that other programs publish on: notif, where redis-memolock's processes say that a value
// is stored, or locknotif, where KeySmith's say who has the lock. The latter is subscribed as a pattern,
// because who counts the exact subscribers of locknotif counts KeySmith's processes.
type feed struct {
	channel   string
	locknotif bool
}

// escaped is a pattern that matches the channel only.
func (f feed) escaped() string { return globs.Replace(f.channel) }

var globs = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

// notifications follows the feeds of the names that somebody here waits for. A message is a bell.
type notifications struct {
	e   *Engine
	sub subscription

	mu      sync.Mutex
	names   map[feed]string // of all feeds in use
	dirty   map[feed]bool   // feeds whose use changed
	current *redis.PubSub   // while subscribed
	wake    chan struct{}   // capacity one
}

func newNotifications(e *Engine, client *redis.Client) *notifications {
	n := &notifications{
		e:     e,
		names: map[feed]string{},
		dirty: map[feed]bool{},
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

// changed says that somebody has begun, or ceased, to wait for name. How it is at the time is looked up
// later: calls may overtake one another.
func (n *notifications) changed(f feed, name string) {
	n.mu.Lock()
	used := n.used(f, name)
	_, followed := n.names[f]
	if used { // also if the change is known: without a connection the name of one that was not used is forgotten
		n.names[f] = name
	}
	news := !n.dirty[f] && followed != used
	if news {
		n.dirty[f] = true
	}
	n.mu.Unlock()
	if news {
		n.nudge()
	}
}

// used reports whether a feed is needed now.
func (n *notifications) used(f feed, name string) bool {
	if f.locknotif {
		return n.e.waiters.hasNamed(name)
	}
	return n.e.waiters.hasMemoCallers(name)
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
	subscribed := map[feed]bool{}
	var on *redis.PubSub
	for {
		select {
		case <-n.wake:
		case <-ctx.Done():
			return
		}
		ps, feeds := n.take()
		if ps != on {
			clear(subscribed)
			on = ps
		}
		if on == nil {
			continue // up marks all feeds dirty
		}
		var join, part, joinPatterns, partPatterns []string
		for f, used := range feeds {
			switch {
			case used == subscribed[f]:
			case used && f.locknotif:
				joinPatterns = append(joinPatterns, f.escaped())
			case used:
				join = append(join, f.channel)
			case f.locknotif:
				partPatterns = append(partPatterns, f.escaped())
			default:
				part = append(part, f.channel)
			}
			if used {
				subscribed[f] = true
			} else {
				delete(subscribed, f)
			}
		}
		// The connection's reader sees failures.
		inBatches(join, func(some []string) { _ = on.Subscribe(ctx, some...) })
		inBatches(part, func(some []string) { _ = on.Unsubscribe(ctx, some...) })
		inBatches(joinPatterns, func(some []string) { _ = on.PSubscribe(ctx, some...) })
		inBatches(partPatterns, func(some []string) { _ = on.PUnsubscribe(ctx, some...) })
	}
}

func inBatches(channels []string, do func([]string)) {
	for len(channels) > 0 {
		some := min(len(channels), subscribeMost)
		do(channels[:some])
		channels = channels[some:]
	}
}

// take returns the changed feeds, and whether each is in use.
func (n *notifications) take() (*redis.PubSub, map[feed]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	feeds := make(map[feed]bool, len(n.dirty))
	for f := range n.dirty {
		used := n.used(f, n.names[f])
		feeds[f] = used
		if !used {
			delete(n.names, f)
		}
	}
	if n.current != nil {
		clear(n.dirty)
	}
	return n.current, feeds
}

func (n *notifications) up(ps *redis.PubSub) {
	n.mu.Lock()
	n.current = ps
	for f := range n.names {
		n.dirty[f] = true
	}
	n.mu.Unlock()
	n.nudge()
}

func (n *notifications) down(error) {
	n.mu.Lock()
	n.current = nil
	n.mu.Unlock()
}

// name is whose feed a channel, or the pattern of one, is.
func (n *notifications) name(f feed) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.names[f]
	return name, ok
}

// added: from now on no message is missed; one before that may have been.
func (n *notifications) added(channel string, pattern bool) {
	if !pattern {
		n.look(channel)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for f, name := range n.names {
		if f.locknotif && f.escaped() == channel {
			n.e.waiters.ringNamed(name)
		}
	}
}

// message: on notif, the value is looked for a little later. The payload is not taken for the value: channels
// know no databases, so it may be another's. On locknotif the payload is the token of the new owner.
func (n *notifications) message(channel, payload string, pattern bool) {
	if !pattern {
		time.AfterFunc(notifPatience, func() { n.look(channel) })
		return
	}
	if name, ok := n.name(feed{channel, true}); ok {
		n.e.waiters.ringToken(name, payload)
	}
}

func (n *notifications) look(channel string) {
	name, ok := n.name(feed{channel, false})
	if !ok {
		return
	}
	for _, l := range n.e.waiters.memoLines(name) {
		n.e.fetch(l, false)
	}
}
