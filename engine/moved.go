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

	// movesSettle is for how long all must have been well before it is often again: the callers of two Redis that both
	// take writes, as a balancer may leave them for a while, pull the inbox to and fro.
	movesSettle = 5 * time.Minute

	// ownOver is when the own connections that were replaced are closed.
	ownOver = 5 * time.Second
)

var errMoved = errors.New("the clients' connections reach another Redis than the one it is on")

// moved notices a failover that closes no connections: an address that now leads to another Redis, while the one of
// before lives on, as its replica or not. Callers come to the new one, our own connections stay on the old one. Those
// that are subscribed even hear the bells, which are replicated to a replica, but the scripts that count the
// subscribers of an inbox find none and take all who wait here for unreachable.
type moved struct {
	mu   sync.Mutex
	next time.Time // of a look
	gap  time.Duration
	last time.Time // that the inbox was not found
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
	now := time.Now()
	switch {
	case !us:
		m.gap, m.last = min(2*max(m.gap, lookOften), lookSeldom), now
	case now.Sub(m.last) > movesSettle:
		m.gap = lookOften
	}
	m.next = now.Add(m.gap)
}

// lookForUs looks, from time to time, whether our inbox is where the scripts of this session run, and if not dials
// all own connections anew.
func (e *Engine) lookForUs(ctx context.Context, s Session) {
	inbox, notif := e.inbox.stands(), e.notif.sub.stands()
	if inbox == nil || !e.moved.due() {
		return
	}
	reply, err := s.Do(ctx, "PUBSUB", "NUMSUB", e.inbox.channel)
	f := fieldsOf(reply)
	f.next() // the channel
	n := f.number()
	told := err == nil && f.err == nil
	e.moved.found(told && n > 0)
	if !told || n > 0 {
		return
	}
	e.spawn(func() { e.inbox.redial(inbox, errMoved) })
	e.spawn(func() { e.notif.sub.redial(notif, errMoved) })
	old := e.own.renew()
	over := func() {
		select {
		case <-time.After(ownOver): // what was under way on it has come to an end
		case <-e.run.Done():
		}
		_ = old.Close()
	}
	if !e.spawn(over) {
		_ = old.Close()
	}
}
