package engine

import (
	"hash/maphash"
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
	quiet   bool      // its loss is no news, the caller does not know of it yet
	trusted time.Time // when the last ask or renewal that succeeded was sent: the lease stands a TTL from then
	next    time.Time // when to renew
	lost    bool      // while quiet

	// forgiven: its token was given up when the grant was not booked yet. If the next renewal says that it is lost
	// that was the end of it, and no news.
	forgiven bool

	doubted time.Time // when it was said that it may have ended; zero once a later renewal has succeeded
}

func (h *hold) departure() departure { return departure{token: h.token, seq: h.seq} }

// pushLost tells the client, if it can be told.
func (h *hold) pushLost() { h.s.Push("ks.lost", h.name, h.token) }

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

// never is when a hold of a session runs out, for lastGrant.
const never = 100 * 365 * 24 * time.Hour

// longMillis is ms as a Duration, at most never.
func longMillis(ms int64) time.Duration {
	if ms > never.Milliseconds() {
		return never
	}
	return time.Duration(ms) * time.Millisecond
}

// lastMost is how many last grants a session keeps before those that have run out are forgotten.
const lastMost = 1024

// holds knows what each session was granted, and what must be renewed.
type holds struct {
	ttl     time.Duration // of every hold
	changed chan struct{} // capacity one: something is due earlier than it was

	mu       sync.Mutex
	sessions map[Session]*sessionGrants
	held     map[uint64]*hold          // by seq
	lines    map[line][]*hold          // the same
	leaving  map[Session]chan struct{} // of sessions whose holds are being released; closed when they are
	wakes    time.Time                 // when the watchdog looks next

	// Of what is no hold yet, because its grant may still be on its way.
	seed   maphash.Seed
	early  recent // attempts that were doubted
	gaveUp recent // claims whose token was given up
}

// recent are the last of the numbers that were added; none is 0.
type recent struct {
	all  [1 << 10]uint64
	next int
}

func (r *recent) add(n uint64) {
	r.all[r.next] = n
	r.next = (r.next + 1) % len(r.all)
}

func (r *recent) has(n uint64) bool { return slices.Contains(r.all[:], n) }

// claim is what a token has or had in a line, as a number.
func (hs *holds) claim(l line, token string) uint64 {
	return maphash.Comparable(hs.seed, struct {
		line
		token string
	}{l, token})
}

func newHolds(ttl time.Duration) *holds {
	return &holds{
		ttl:      ttl,
		changed:  make(chan struct{}, 1),
		sessions: map[Session]*sessionGrants{},
		held:     map[uint64]*hold{},
		lines:    map[line][]*hold{},
		leaving:  map[Session]chan struct{}{},
		seed:     maphash.MakeSeed(),
	}
}

// granted books a grant; the ask was sent at the time sent. Replies may be booked in another order than
// Redis gave them, so an earlier attempt with the same token stays: its renewal will say that it is
// superseded. Only on its own connection, where order is kept, the later one counts.
func (hs *holds) granted(c *call, sent time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	g := hs.sessions[c.s]
	if g == nil {
		g = &sessionGrants{last: map[line]lastGrant{}, held: map[uint64]*hold{}}
		hs.sessions[c.s] = g
	}
	for _, h := range slices.Clone(hs.lines[c.line]) {
		if h.s == c.s && h.token == c.req.Token {
			hs.drop(h)
		}
	}
	if !c.req.Session {
		g.remember(c.line, lastGrant{c.req.Token, sent.Add(longMillis(c.req.Lease))})
		return
	}
	g.remember(c.line, lastGrant{c.req.Token, sent.Add(never)})
	h := &hold{
		line: c.line, token: c.req.Token, seq: c.seq, s: c.s,
		quiet: c.quiet, trusted: sent, next: sent.Add(hs.ttl / 3),
	}
	hs.keep(g, h)
	h.forgiven = hs.gaveUp.has(hs.claim(h.line, h.token))
	if h.forgiven || hs.early.has(h.seq) {
		hs.doubts(h)
	}
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

// keep enters a hold. All have the same TTL, so only the first of all changes when the watchdog is due, and one whose
// grant was long on its way.
func (hs *holds) keep(g *sessionGrants, h *hold) {
	g.held[h.seq], hs.held[h.seq] = h, h
	hs.lines[h.line] = append(hs.lines[h.line], h)
	if last := g.last[h.line]; last.token == h.token {
		g.last[h.line] = lastGrant{h.token, h.trusted.Add(never)}
	}
	if len(hs.held) == 1 || h.next.Before(hs.wakes) {
		hs.wake()
	}
}

// wake has the watchdog look when it is due.
func (hs *holds) wake() {
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
		if last := g.last[h.line]; last.token == h.token { // it is still known, but may be forgotten
			g.last[h.line] = lastGrant{h.token, time.Now()}
		}
	}
	rest := slices.DeleteFunc(hs.lines[h.line], func(o *hold) bool { return o == h })
	if len(rest) == 0 {
		delete(hs.lines, h.line)
	} else {
		hs.lines[h.line] = rest
	}
}

// leased turns the hold of c into a lease that ends then.
func (hs *holds) leased(c *call, ends time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.held[c.seq]; h != nil {
		hs.drop(h)
	}
	if g := hs.sessions[c.s]; g != nil {
		g.remember(c.line, lastGrant{c.req.Token, ends})
	}
}

// loud: the caller knows what c has, so it is told when that is lost, or was while it did not know.
func (hs *holds) loud(c *call) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.held[c.seq]; h != nil {
		h.quiet = false
		if h.lost {
			hs.doubts(h)
		}
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
	holds := slices.ContainsFunc(hs.lines[l], func(h *hold) bool { return h.token == token })
	if g := hs.sessions[s]; g != nil && g.last[l].token == token && !holds {
		g.last[l] = lastGrant{token, ends}
	}
}

// ending is told before a token's hold is given up by a command of session s, so that no renewal under way
// takes it for lost. The returned function puts back what it took away, for a command that did not end it;
// it returns the holds of sessions that ended meanwhile, which are still to be released. What is put back is
// doubted: the command may not have ended it because it had ended, and who said so was not listened to meanwhile.
func (hs *holds) ending(s Session, l line, token string) (undo func() []*hold) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var ended []*hold
	var owners []*sessionGrants
	for _, h := range slices.Clone(hs.lines[l]) {
		if h.token == token {
			ended, owners = append(ended, h), append(owners, hs.sessions[h.s])
			hs.drop(h)
		}
	}
	if len(ended) == 0 {
		hs.gaveUp.add(hs.claim(l, token))
	}
	var last lastGrant
	g := hs.sessions[s]
	if g != nil && g.last[l].token == token {
		last = g.last[l]
		delete(g.last, l)
	}
	return func() (orphans []*hold) {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		if last.token != "" && hs.sessions[s] == g {
			g.last[l] = last
		}
		for i, h := range ended {
			if hs.sessions[h.s] == owners[i] {
				hs.keep(owners[i], h)
				hs.doubts(h)
			} else {
				orphans = append(orphans, h)
			}
		}
		return orphans
	}
}

// doubt: another proxy says that it ended the hold of an attempt by its token, or revoked it, so it is looked at now.
func (hs *holds) doubt(seq uint64) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.held[seq]; h != nil {
		hs.doubts(h)
	} else {
		hs.early.add(seq)
	}
}

// doubtAll: what was said of holds may not have been heard.
func (hs *holds) doubtAll() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, h := range hs.held {
		hs.doubts(h)
	}
}

// doubts has h renewed at once, which tells whether it stands.
func (hs *holds) doubts(h *hold) {
	h.doubted = time.Now()
	h.next = h.doubted
	hs.wake()
}

// revoked: the promise of an attempt was revoked. If its hold is not there, a renewal has told the client, or
// will.
func (hs *holds) revoked(seq uint64) {
	hs.mu.Lock()
	h := hs.held[seq]
	if h != nil {
		hs.drop(h)
	} else {
		hs.early.add(seq)
	}
	hs.mu.Unlock()
	if h != nil {
		h.pushLost()
	}
}

// gone drops the hold of an attempt.
func (hs *holds) gone(seq uint64) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h := hs.held[seq]; h != nil {
		hs.drop(h)
	}
}

// waitsForItself: the token by which the call's own session holds the lock that it waits for as long as it lasts,
// as far as is known here; empty if it does not. One that is doubted is not counted: who waits asks again, and then
// it is known.
func (hs *holds) waitsForItself(c *call) string {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, h := range hs.lines[c.line] {
		if h.s == c.s && h.doubted.IsZero() && h.token != c.req.Token { // KS.WAIT has none
			return h.token
		}
	}
	return ""
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
// call of s may be under way; after a RESET more may follow, and wait for the releases. It does not block:
// they are sent by the leaver.
func (e *Engine) Ended(s Session) {
	ended := e.holds.end(s)
	if len(ended) == 0 {
		return
	}
	released := e.holds.leaves(s)
	gone := make([]<-chan struct{}, len(ended))
	for i, h := range ended {
		gone[i] = e.leaver.add(h.line, h.departure())
	}
	forget := func() {
		e.awaitAll(gone)
		e.holds.left(s, released)
	}
	if !e.spawn(forget) {
		e.holds.left(s, released)
	}
}

// leaves notes that what s held is being released.
func (hs *holds) leaves(s Session) chan struct{} {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	released := make(chan struct{})
	hs.leaving[s] = released
	return released
}

func (hs *holds) left(s Session, released chan struct{}) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	close(released)
	if hs.leaving[s] == released {
		delete(hs.leaving, s)
	}
}

// awaitReleases waits until what s held before it was RESET is released, or leavePatience has passed: its
// commands act in order.
func (hs *holds) awaitReleases(s Session) {
	hs.mu.Lock()
	released := hs.leaving[s]
	hs.mu.Unlock()
	if released != nil {
		<-released
	}
}

// awaitAll waits for departures, leavePatience at most.
func (e *Engine) awaitAll(gone []<-chan struct{}) {
	patience := time.NewTimer(leavePatience)
	defer patience.Stop()
	for _, done := range gone {
		select {
		case <-done:
		case <-patience.C:
			return
		case <-e.run.Done():
			return
		}
	}
}

// ending is holds.ending for a command of s. undo also releases what lost its session meanwhile.
func (e *Engine) ending(s Session, l line, token string) (undo func()) {
	back := e.holds.ending(s, l, token)
	return func() {
		for _, h := range back() {
			e.leaver.add(h.line, h.departure())
		}
	}
}
