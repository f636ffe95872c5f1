package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Request is what a caller of Lock or Memo wants.
type Request struct {
	Name string

	// Token proves ownership. Empty: the engine makes an unguessable one. With a token of the caller's the
	// call may be sent again, on another connection as well: it takes over what the earlier one has.
	Token string

	// Lease is how long the lock or promise is held, in ms; 0: ks-lock-ttl. With Session it is held, and
	// renewed, until Ended, whatever Lease says.
	Lease   int64
	Session bool

	// Wait bounds the wait, in ms; 0: as long as it takes. NoWait asks once.
	Wait   int64
	NoWait bool
}

// verdict is what an ask script answers.
type verdict int

const (
	waits    verdict = iota
	granted          // fence
	valued           // value: memo only
	staled           // value, whose TTL has ended while another is making the next: memo only
	rejected         // value is the message: memo only
	refused          // somebody else has it, and the call does not wait
	gone             // a later call with the same token took this one's place
)

type answer struct {
	verdict
	fence int64
	value string

	shared *Shared // of a value that others get, too

	left     int64 // ms the lock is still held; -1: no end known
	first    bool  // in line
	stranger bool  // the holder will not ring us
	length   int   // of the line
	since    int64 // the least fence of the promise that is waited for
}

// call is one attempt of a caller on a line.
type call struct {
	line
	s                Session
	script           *script
	keys             []string
	peer             Peer
	req              Request
	args             []any // common, without those that change from ask to ask
	own              string
	seq              uint64
	since            int64  // of the first answer to wait; -1: none yet
	asks             int    // so far
	handed           bool   // the lock was handed over, with no ask of its own
	repeats          bool   // a call that began earlier: it takes nothing over from others with its token
	quiet            bool   // the caller does not know yet what it has, so its loss is no news
	notif, locknotif string // channels
	keep             bool   // the place is kept for a while when the call ends: its token is the caller's
}

// newToken has 128 random bits.
func newToken() string { return rand.Text() }

// newCall prepares a call, for which it has to know who the caller is; its error means that the session
// is lost.
func (e *Engine) newCall(ctx context.Context, s Session, memo bool, k keys, r Request) (*call, error) {
	peer, err := s.Peer(ctx)
	if err != nil {
		return nil, err
	}
	c := &call{
		line: line{s.DB(), r.Name}, s: s, peer: peer, keep: r.Token != "", since: -1,
		script: askLockScript, keys: k.ofLine(),
	}
	if memo {
		c.script, c.keys = askMemoScript, k.ofMemo()
	}
	if r.Token == "" {
		r.Token = newToken()
	}
	if r.Lease == 0 || r.Session {
		r.Lease = e.LockTTL()
	}
	r.Lease = e.bounded(r.Lease)
	mode := "l"
	if r.Session {
		mode = "s"
	}
	c.own = strings.TrimSpace(mode + " " + peer.Addr + " " + peer.Name)
	c.req, c.args = r, e.common(c.line, k)
	c.notif, c.locknotif = k.notif, k.locknotif
	return c, nil
}

// bounded is a lease, or the longest there may be, in ms.
func (e *Engine) bounded(lease int64) int64 {
	if most := e.cfg.MaxLease.Milliseconds(); most > 0 {
		return min(lease, most)
	}
	return lease
}

// ask runs the call's script once. first tells the attempt's first ask, which alone may take over what
// an earlier call with the same token has got.
func (e *Engine) ask(ctx context.Context, c *call, first, nowait bool) (answer, error) {
	since := ""
	if c.since >= 0 {
		since = strconv.FormatInt(c.since, 10)
	}
	args := append(c.args[:len(c.args):len(c.args)],
		c.req.Token, int64(c.seq), asFlag(first && !c.repeats), c.req.Lease, asFlag(nowait), e.fence.Load(), c.own, since)
	c.asks++
	began := time.Now()
	reply, err := c.script.run(ctx, c.s, c.keys, args)
	if err != nil {
		return answer{}, err
	}
	a, rings, err := parseAnswer(reply)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", c.script.name, err)
	}
	e.ringLocal(c.line, rings)
	switch {
	case a.verdict == granted:
		a = e.has(c, a.fence, began)
	case a.verdict == waits:
		if c.since < 0 {
			c.since = a.since
		}
		e.lookForUs(ctx, c.s)
	}
	return a, nil
}

func asFlag(on bool) int {
	if on {
		return 1
	}
	return 0
}

func parseAnswer(reply any) (a answer, rings []ring, err error) {
	f := fieldsOf(reply)
	switch word := f.text(); word {
	case "granted":
		a.verdict, a.fence = granted, f.number()
	case "value":
		a.verdict, a.value = valued, f.text()
	case "stale":
		a.verdict, a.value = staled, f.text()
	case "rejected":
		a.verdict, a.value = rejected, f.text()
	case "wait":
		a.verdict, a.left = waits, f.number()
		a.first, a.stranger = f.number() == 1, f.number() == 1
		a.length, a.since = int(f.number()), f.number()
	case "no":
		a.verdict = refused
	case "gone":
		a.verdict = gone
	default:
		return a, nil, errors.Join(f.err, fmt.Errorf("unknown answer %q", word))
	}
	rings = f.rings()
	return a, rings, f.err
}

// askOnce is a call that does not wait: it is not registered and leaves nothing behind.
func (e *Engine) askOnce(ctx context.Context, c *call) (answer, error) {
	c.seq = e.waiters.nextSeq()
	a, err := e.ask(ctx, c, true, true)
	if isLost(err) {
		e.leaveLost(c)
	}
	if err != nil {
		return a, err
	}
	switch a.verdict {
	case granted, valued, staled:
		return a, nil
	case rejected:
		return a, &RejectedError{a.value}
	default:
		return a, ErrNotGranted
	}
}

// await asks, and waits to ask again, until the answer is final, the wait is over or ctx ends (its
// cause is the error). Whatever is left behind then has been told to leave.
func (e *Engine) await(ctx context.Context, c *call, w *waiter) (answer, error) {
	c.seq = w.seq
	var over <-chan time.Time
	if c.req.Wait > 0 {
		end := time.NewTimer(millis(c.req.Wait))
		defer end.Stop()
		over = end.C
	}
	for first := true; ; first = false {
		w.drain() // before the ask: what rings from now on is news
		a, err := e.ask(ctx, c, first, false)
		if err != nil {
			e.leaveAfter(c, first, err)
			return a, err
		}
		if first && a.verdict == waits {
			e.ahead.waits(c.s, w)
			if w.value == nil {
				e.waiters.stands(w, c)
			}
		}
		if !first {
			e.news(w, a)
		}
		if done, err := e.final(ctx, c, a, first); done {
			return a, err
		}
		w.since.Store(c.since)
		if a, done, err := e.rest(ctx, c, w, a, over); done {
			return a, err
		}
	}
}

// rest waits, after an ask that said so, until it is time to ask again, or until the answer is there without.
func (e *Engine) rest(ctx context.Context, c *call, w *waiter, a answer, over <-chan time.Time) (answer, bool, error) {
	pause := nextAsk(a)
	for {
		again := time.NewTimer(pause)
		select {
		case <-w.bell:
			w.rung = true
		case <-again.C:
			w.rung = false
			if !a.first {
				if pause = e.waiters.pace(w, time.Now()); pause > 0 {
					continue
				}
			}
		case ends := <-w.first:
			again.Stop()
			a.first, a.stranger, a.left = true, false, max(time.Until(ends).Milliseconds(), 0)
			pause = nextAsk(a)
			continue
		case g := <-w.direct:
			again.Stop()
			c.handed = true
			a = e.has(c, g.fence, g.sent)
			_, err := e.final(ctx, c, a, false)
			return a, true, err
		case s := <-w.value:
			again.Stop()
			if s.fence > 0 && c.since > s.fence { // of before the call: the value is gone again, or was forgotten
				return a, false, nil // a later one may have found no room beside it
			}
			if !s.struck && !w.struck.Load() {
				d := c.departure()
				d.served, d.keep = true, false
				e.leaver.add(c.line, d)
			}
			if s.rejected {
				return answer{}, true, &RejectedError{s.value}
			}
			return answer{verdict: valued, value: s.value, shared: s.shared}, true, nil
		case <-over:
			again.Stop()
			e.leave(c)
			return a, true, ErrNotGranted
		case <-ctx.Done():
		}
		again.Stop()
		if ctx.Err() != nil {
			e.leave(c)
			return a, true, context.Cause(ctx)
		}
		return a, false, nil
	}
}

// has books that c has the lock; sent is when that was asked for.
func (e *Engine) has(c *call, fence int64, sent time.Time) answer {
	e.sawFence(fence)
	e.holds.granted(c, sent)
	return answer{verdict: granted, fence: fence}
}

// final decides whether a ends the call. What need not wait is answered even to one who hung up; a
// grant after waiting that crosses the end of ctx is handed on.
func (e *Engine) final(ctx context.Context, c *call, a answer, first bool) (bool, error) {
	switch a.verdict {
	case valued, staled:
		return true, nil
	case rejected:
		return true, &RejectedError{a.value}
	case granted:
		if first || ctx.Err() == nil {
			return true, nil
		}
		e.holds.gone(c.seq)
		e.leave(c)
		return true, context.Cause(ctx)
	case waits:
		if err := e.deadlock(ctx, c); err != nil {
			e.leave(c)
			return true, err
		}
		if ctx.Err() == nil {
			return false, nil
		}
		e.leave(c)
		return true, context.Cause(ctx)
	default:
		return true, ErrNotGranted
	}
}

// deadlock returns an error for a call that would wait for itself.
func (e *Engine) deadlock(ctx context.Context, c *call) error {
	if token := e.holds.waitsForItself(c); token != "" {
		owner, _, err := get(ctx, c.s, c.keys[0])
		if err != nil {
			return err
		}
		if owner == token {
			c.keep = false
			return &DeadlockError{Name: c.name}
		}
	}
	behind, err := e.unlocksBehind(ctx, c)
	if behind {
		c.keep = false
		err = &DeadlockError{Name: c.name, Behind: true}
	}
	return err
}

func (c *call) departure() departure {
	return departure{token: c.req.Token, seq: c.seq, keep: c.keep}
}

// leave takes the call out of the line, or hands on what it was granted meanwhile, and waits a while for
// that to be done. The call's last ask has been answered by then, so nothing of it is still on its way.
func (e *Engine) leave(c *call) {
	e.awaitAll([]<-chan struct{}{e.depart(c)})
}

// depart queues the call's departure, and that of its place if that is kept for a while.
func (e *Engine) depart(c *call) <-chan struct{} {
	if c.keep {
		over := departure{token: c.req.Token, seq: c.seq, over: true}
		time.AfterFunc(keepPlace+leaseGrace, func() { e.leaver.add(c.line, over) })
	}
	return e.leaver.add(c.line, c.departure())
}

// leaveAfter cleans up after an ask that failed: one that Redis refused did nothing, so only earlier
// ones count; one whose session broke may still be executed.
func (e *Engine) leaveAfter(c *call, first bool, err error) {
	switch {
	case isLost(err):
		e.leaveLost(c)
	case !first:
		e.depart(c)
	}
}

// isLost: the session broke, and the command may or may not have run.
func isLost(err error) bool {
	if err == nil || errors.Is(err, ErrNotGranted) {
		return false
	}
	var refused RedisError
	return !errors.As(err, &refused)
}

const (
	recheck       = 5 * time.Second
	recheckFirst  = time.Second
	recheckFar    = 20 * time.Second // still below the queue's TTL of 60 s
	farAway       = 1000             // waiters in line from which on the others ask that rarely
	recheckLeast  = 10 * time.Millisecond
	leaseGrace    = 5 * time.Millisecond
	leaseJitter   = 20 * time.Millisecond
	longestSilent = 24 * time.Hour // bounds timers against leases of centuries
)

// nextAsk is when a waiter asks again unless a bell rings before: when the lease has run out, and once
// in a while in case a bell was lost. At the lease's end the first in line comes first; the others
// follow at about one a millisecond, in case he is not there to do it.
func nextAsk(a answer) time.Duration {
	pause := recheck
	switch {
	case a.stranger && a.left > 0:
		pause = min(recheckFirst, max(millis(a.left)/3, recheckLeast))
	case a.first || a.stranger:
		pause = recheckFirst
	case a.length > farAway:
		pause = recheckFar
	}
	pause = pause*8/10 + mrand.N(pause*4/10+1)
	if a.left < 0 {
		return pause
	}
	jitter := leaseJitter
	if !a.first {
		jitter = max(jitter, time.Duration(a.length)*time.Millisecond)
	}
	return min(pause, millis(a.left)+leaseGrace+mrand.N(jitter))
}

// millis is n milliseconds, or longestSilent if that is less.
func millis(n int64) time.Duration {
	if n > longestSilent.Milliseconds() {
		return longestSilent
	}
	return time.Duration(n) * time.Millisecond
}
