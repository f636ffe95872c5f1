package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

const (
	// leaveBatch bounds how many calls leave in one script, and leaveRound in one round trip.
	leaveBatch = 500
	leaveRound = 64

	// leaveRetry is the pause after a round that Redis did not take, leaveAge how long a departure is
	// tried: by then its place has run out by itself.
	leaveRetry = 100 * time.Millisecond
	leaveAge   = time.Minute

	// linger is how long departures of memo callers that got their value wait for the bell that says that
	// their places are struck: it comes over another connection, and on a busy machine later. A herd would make a long
	// script of looks for places that are gone.
	linger = 50 * time.Millisecond

	// keepPlace is how long the place of a call with a token of the caller's outlives it; lua/line.lua has
	// the same. Then its proxy clears it away.
	keepPlace = 2 * time.Second

	// leavePatience is how long a call waits for its own departure before it answers.
	leavePatience = time.Second
)

// departure is an attempt that ended without the lock; one of nobody (seq 0) makes the leave script look
// whether a hand-off was claimed.
type departure struct {
	token    string
	seq      uint64
	keep     bool // the place, for a while
	over     bool // it was kept long enough
	keepHeld bool // leave what the attempt claimed
	served   bool // a memo caller that got its value: a RESOLVE may have taken it out of the line already
	since    time.Time
	done     chan struct{} // closed when Redis has taken it, or it is given up
}

// placeFlag says what the leave script does with the place.
func (d departure) placeFlag() int {
	if d.over {
		return 2
	}
	return asFlag(d.keep)
}

// party is what can leave in one script.
type party struct {
	line
	keepHeld bool
}

// leaver takes calls that are over out of their lines. One goroutine sends what has gathered while its
// last round was under way, so ten thousand calls that end at once cost a few round trips.
type leaver struct {
	send func(context.Context, []batch) []error

	mu        sync.Mutex
	pending   map[party][]departure
	lingering bool // a timer will wake for those that linger
	closed    bool
	wake      chan struct{} // capacity one
}

// batch is one script's worth of departures.
type batch struct {
	party
	who []departure
}

func newLeaver(send func(context.Context, []batch) []error) *leaver {
	return &leaver{send: send, pending: map[party][]departure{}, wake: make(chan struct{}, 1)}
}

// add queues d; the channel closes when it is done with.
func (l *leaver) add(at line, d departure) <-chan struct{} {
	if d.since.IsZero() {
		d.since = time.Now()
	}
	if d.done == nil {
		d.done = make(chan struct{})
	}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		p := party{at, d.keepHeld}
		l.pending[p] = append(l.pending[p], d)
		if d.served {
			l.wakeLater()
		}
	}
	l.mu.Unlock()
	switch {
	case closed:
		close(d.done)
	case !d.served:
		l.wakeNow()
	}
	return d.done
}

func (l *leaver) wakeNow() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// wakeLater wakes for those that linger; mu is held.
func (l *leaver) wakeLater() {
	if l.lingering {
		return
	}
	l.lingering = true
	time.AfterFunc(linger, func() {
		l.mu.Lock()
		l.lingering = false
		l.mu.Unlock()
		l.wakeNow()
	})
}

// addAgain queues d once more after a second and after ten: for a call whose ask Redis may still execute.
func (l *leaver) addAgain(at line, d departure) {
	for _, pause := range []time.Duration{time.Second, 10 * time.Second} {
		time.AfterFunc(pause, func() { l.add(at, d) })
	}
}

// leaveLost cleans up after a call whose session broke with an ask unanswered. Redis may have received
// the ask and not read it yet, so the connection is killed first: what Redis has not executed by then it
// never will. Where that can't be done the call leaves more than once.
func (e *Engine) leaveLost(c *call) {
	d := c.departure()
	started := e.spawn(func() {
		killed := e.killLane(c.peer)
		e.depart(c)
		if !killed {
			e.leaver.addAgain(c.line, d)
		}
	})
	if !started {
		e.leaver.add(c.line, d)
	}
}

// killPatience bounds the CLIENT KILL of a broken session.
const killPatience = time.Second

// killLane reports whether Redis has nothing more to execute from the connection of peer. It is named by
// number and address, because the numbers begin anew when Redis starts anew; over a Unix socket all have
// the same address, and nothing can be on its way.
func (e *Engine) killLane(peer Peer) bool {
	if peer.ID == 0 || peer.Upstream == "" || strings.HasSuffix(peer.Upstream, ":0") {
		return false
	}
	ctx, cancel := context.WithTimeout(e.run, killPatience)
	defer cancel()
	_, err := e.own.conn().Do(ctx, "CLIENT", "KILL", "ID", peer.ID, "ADDR", peer.Upstream)
	return err == nil
}

// run sends until ctx ends, then what is left, bounded by last (a context for that), and refuses what
// comes later.
func (l *leaver) run(ctx context.Context, last func() context.Context) {
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			l.mu.Lock()
			l.closed = true
			l.mu.Unlock()
			l.flush(last())
			l.abandon()
			return
		}
		if !l.flush(ctx) {
			select {
			case <-time.After(leaveRetry):
			case <-ctx.Done():
			}
		}
	}
}

// flush sends all that is pending, in rounds; false if some must be tried again.
func (l *leaver) flush(ctx context.Context) bool {
	batches := l.take()
	ok := true
	for len(batches) > 0 {
		n := min(len(batches), leaveRound)
		for i, err := range l.send(ctx, batches[:n]) {
			if err != nil && isTransient(err) {
				l.retry(batches[i])
				ok = false
			} else {
				batches[i].finish()
			}
		}
		batches = batches[n:]
	}
	return ok
}

// take empties pending into batches, but for those that linger.
func (l *leaver) take() []batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var batches []batch
	staying := map[party][]departure{}
	for p, all := range l.pending {
		who := all[:0]
		for _, d := range all {
			if d.served && !l.closed && time.Since(d.since) < linger {
				staying[p] = append(staying[p], d)
			} else {
				who = append(who, d)
			}
		}
		for len(who) > 0 {
			n := min(len(who), leaveBatch)
			batches = append(batches, batch{p, who[:n]})
			who = who[n:]
		}
	}
	l.pending = staying
	if len(staying) > 0 {
		l.wakeLater()
	}
	return batches
}

// retry puts back those of b that are young enough.
func (l *leaver) retry(b batch) {
	for _, d := range b.who {
		if time.Since(d.since) > leaveAge {
			close(d.done)
			continue
		}
		l.add(b.line, d)
	}
}

// forget drops those departures of a line whom the script that stored their value has taken out of it.
func (l *leaver) forget(at line) {
	p := party{line: at}
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.pending[p][:0]
	for _, d := range l.pending[p] {
		if d.served {
			close(d.done)
		} else {
			kept = append(kept, d)
		}
	}
	if len(kept) == 0 {
		delete(l.pending, p)
	} else {
		l.pending[p] = kept
	}
}

func (l *leaver) abandon() {
	for _, b := range l.take() {
		b.finish()
	}
}

func (b batch) finish() {
	for _, d := range b.who {
		close(d.done)
	}
}

// isTransient: Redis is away or busy, so a departure is worth another try.
func isTransient(err error) bool {
	var refused RedisError
	if !errors.As(err, &refused) {
		return true
	}
	first, _, _ := strings.Cut(string(refused), " ")
	switch first {
	case "LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF", "TRYAGAIN":
		return true
	}
	return false
}

// sendDepartures runs one leave script for each batch, in one pipeline on the engine's own connection.
// It returns an error, or nil, for each.
func (e *Engine) sendDepartures(ctx context.Context, batches []batch) []error {
	errs := make([]error, len(batches))
	calls := make([]scriptCall, len(batches))
	for i, b := range batches {
		calls[i].keys, calls[i].args = e.leaveCall(b)
	}
	for i, r := range e.own.conn().runAll(ctx, leaveScript, calls) {
		b, reply, err := batches[i], r.reply, r.err
		if err == nil {
			f := fieldsOf(reply)
			f.number()
			e.ringLocal(b.line, f.rings())
		} else if !isTransient(err) {
			e.log.Warn("who left a line can't be taken out of it, others wait up to 2 s longer: Redis refuses it to the proxy's own user", "err", err)
		}
		errs[i] = err
	}
	return errs
}

func (e *Engine) leaveCall(b batch) ([]string, []any) {
	k, _ := keysOf(b.name, e.cfg.TagSplit) // was valid when it was asked
	released := 1
	if b.keepHeld {
		released = 0
	}
	args := append(e.common(b.line, k), released)
	for _, d := range b.who {
		if d.seq != 0 { // 0: nobody leaves, the script looks after a claim
			args = append(args, d.token, int64(d.seq), d.placeFlag())
		}
	}
	return k.ofLine(), args
}
