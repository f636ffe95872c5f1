package engine

import (
	"slices"
	"sync"
	"time"
)

// hold is a lock or promise that lasts as long as a session (SESSION). Its lease is ks-lock-ttl, renewed
// by the watchdog.
type hold struct {
	line
	token string
	seq   uint64 // of the attempt that was granted
	s     Session

	// Owned by holds, under its mutex.
	trusted time.Time // when the last ask or renewal that succeeded was sent: the lease stands a TTL from then
	next    time.Time // when to renew
}

func (h *hold) departure() departure { return departure{token: h.token, seq: h.seq} }

// sessionGrants is what a session was granted.
type sessionGrants struct {
	last map[line]lastGrant // by name, for KS.UNLOCK without a token
	held map[uint64]*hold   // by seq
}

// lastGrant is the token of the last grant of a name, and when its lease ends unless it is extended.
type lastGrant struct {
	token string
	ends  time.Time
}

// lastMost is how many last grants a session keeps before those that have run out are forgotten.
const lastMost = 1024

// holds knows what each session was granted, and what must be renewed.
type holds struct {
	ttl     time.Duration // of every hold
	changed chan struct{} // capacity one: there is something to renew again

	mu       sync.Mutex
	sessions map[Session]*sessionGrants
	held     map[uint64]*hold // by seq
	lines    map[line][]*hold // the same
}

func newHolds(ttl time.Duration) *holds {
	return &holds{
		ttl:      ttl,
		changed:  make(chan struct{}, 1),
		sessions: map[Session]*sessionGrants{},
		held:     map[uint64]*hold{},
		lines:    map[line][]*hold{},
	}
}

// granted books a grant; the ask was sent at the time sent. What an earlier ask of the same attempt
// booked stays.
func (hs *holds) granted(c *call, sent time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	g := hs.sessions[c.s]
	if g == nil {
		g = &sessionGrants{last: map[line]lastGrant{}, held: map[uint64]*hold{}}
		hs.sessions[c.s] = g
	}
	g.remember(c.line, lastGrant{c.req.Token, sent.Add(millis(c.req.Lease))})
	if !c.req.Session {
		return
	}
	h := &hold{line: c.line, token: c.req.Token, seq: c.seq, s: c.s, trusted: sent, next: sent.Add(hs.ttl / 3)}
	for _, older := range slices.Clone(hs.lines[c.line]) { // the same token asked again: the later attempt counts
		if older.token == h.token {
			hs.drop(older)
		}
	}
	hs.keep(g, h)
}

// remember notes the last grant of a name. A connection may take any number of leases and let them run out,
// so from time to time those are forgotten: to unlock them does nothing anyway.
func (g *sessionGrants) remember(l line, last lastGrant) {
	g.last[l] = last
	if len(g.last) < lastMost || len(g.last)&(len(g.last)-1) != 0 { // at 1024, 2048, ...
		return
	}
	now := time.Now()
	for l, last := range g.last {
		if now.After(last.ends) {
			delete(g.last, l)
		}
	}
}

// keep enters a hold. All have the same TTL, so only the first of all changes when the watchdog is due.
func (hs *holds) keep(g *sessionGrants, h *hold) {
	g.held[h.seq], hs.held[h.seq] = h, h
	hs.lines[h.line] = append(hs.lines[h.line], h)
	if len(hs.held) > 1 {
		return
	}
	select {
	case hs.changed <- struct{}{}:
	default:
	}
}

// drop forgets a hold.
func (hs *holds) drop(h *hold) {
	delete(hs.held, h.seq)
	if g := hs.sessions[h.s]; g != nil {
		delete(g.held, h.seq)
	}
	rest := slices.DeleteFunc(hs.lines[h.line], func(o *hold) bool { return o == h })
	if len(rest) == 0 {
		delete(hs.lines, h.line)
	} else {
		hs.lines[h.line] = rest
	}
}

// lastToken is the token of the session's last grant of a name.
func (hs *holds) lastToken(s Session, l line) (string, bool) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if g := hs.sessions[s]; g != nil {
		last, ok := g.last[l]
		return last.token, ok
	}
	return "", false
}

// extended: the lease of a token ends later, or sooner.
func (hs *holds) extended(s Session, l line, token string, ends time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if g := hs.sessions[s]; g != nil && g.last[l].token == token {
		g.last[l] = lastGrant{token, ends}
	}
}

// ending is told before a token's hold is given up by a command of session s, so that no renewal under way
// takes it for lost. The returned function puts back what it took away, for a command that failed.
func (hs *holds) ending(s Session, l line, token string) (undo func()) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var ended []*hold
	for _, h := range slices.Clone(hs.lines[l]) {
		if h.token == token {
			ended = append(ended, h)
			hs.drop(h)
		}
	}
	var last lastGrant
	g := hs.sessions[s]
	if g != nil && g.last[l].token == token {
		last = g.last[l]
		delete(g.last, l)
	}
	return func() { hs.restore(s, l, last, ended) }
}

func (hs *holds) restore(s Session, l line, last lastGrant, ended []*hold) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if g := hs.sessions[s]; g != nil && last.token != "" {
		g.last[l] = last
	}
	for _, h := range ended {
		if g := hs.sessions[h.s]; g != nil {
			hs.keep(g, h)
		}
	}
}

// forget drops what was booked for a token.
func (hs *holds) forget(l line, token string) { hs.ending(nil, l, token) }

// gone drops the hold of an attempt: another proxy ended it by its token.
func (hs *holds) gone(seq uint64) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.held[seq]; h != nil {
		hs.drop(h)
	}
}

// waitsForItself: the call waits for a lock that its own session holds as long as it lasts.
func (hs *holds) waitsForItself(c *call) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return slices.ContainsFunc(hs.lines[c.line], func(h *hold) bool {
		return h.s == c.s && h.token != c.req.Token // KS.WAIT has none
	})
}

// end forgets a session, and returns what it held.
func (hs *holds) end(s Session) []*hold {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	g := hs.sessions[s]
	if g == nil {
		return nil
	}
	delete(hs.sessions, s)
	ended := make([]*hold, 0, len(g.held))
	for _, h := range g.held {
		hs.drop(h)
		ended = append(ended, h)
	}
	return ended
}

// Ended releases what was granted to s for as long as it lasts: its connection is closed, or was RESET. No
// call of s may be under way; after a RESET more may follow. It does not block: the releases are sent by
// the leaver.
func (e *Engine) Ended(s Session) {
	e.ForgetAhead(s)
	for _, h := range e.holds.end(s) {
		e.leaver.add(h.line, h.departure())
	}
}
