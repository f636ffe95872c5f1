package engine

import (
	"context"
	"errors"
	"sync"
	"time"
)

// lookOften and lookSeldom are how often a caller that has to wait looks for our inbox: often as long as that
// finds it.
const (
	lookOften  = 3 * time.Second
	lookSeldom = time.Minute
)

var errMoved = errors.New("the clients' connections reach another Redis than the one it is on")

// moved notices a failover that closes no connections: an address that now leads to another Redis, while the one of
// before lives on as its replica. Callers come to the new one, our subscriptions stay on the old one. They even hear
// the bells, which are replicated, but the scripts that count the subscribers of an inbox find none and
// take all who wait here for unreachable.
type moved struct {
	mu   sync.Mutex
	next time.Time // of a look
	gap  time.Duration
}

// due reports whether it is time to look, and takes that on.
func (m *moved) due() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Before(m.next) {
		return false
	}
	m.next = now.Add(lookSeldom) // found says when
	return true
}

// up is told that the inbox is on the Redis that is reached now.
func (m *moved) up() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next = time.Now().Add(max(m.gap, lookOften))
}

// found sets the pace: a Redis that can't tell, or never tells of us, is not asked as often.
func (m *moved) found(us bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gap = min(2*max(m.gap, lookOften), lookSeldom); us {
		m.gap = lookOften
	}
	m.next = time.Now().Add(m.gap)
}

// lookForUs looks, from time to time, whether our inbox is where the scripts of this session run, and dials anew
// if not.
func (e *Engine) lookForUs(ctx context.Context, s Session) {
	if !e.inbox.stands() || !e.moved.due() {
		return
	}
	reply, err := s.Do(ctx, "PUBSUB", "NUMSUB", e.inbox.channel)
	f := fieldsOf(reply)
	f.next() // the channel
	n := f.number()
	told := err == nil && f.err == nil
	e.moved.found(told && n > 0)
	if told && n == 0 {
		e.inbox.redial(errMoved)
		e.notif.sub.redial(errMoved)
	}
}
