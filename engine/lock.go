package engine

import (
	"context"
	"errors"
	"time"
)

// Grant is a lock: Token proves ownership, Fence is larger than that of every earlier grant.
type Grant struct {
	Token string
	Fence int64
}

// Lock waits in line for the lock and takes it. Errors: ErrNotGranted, ErrInvalidName,
// ErrTooManyWaiters, UnavailableError, DeadlockError, a RedisError in Redis's own words, the cause of ctx
// when it ended while the call waited, or that of a session that broke. But for a session that broke,
// nothing is left behind in Redis after an error, except the place of a call with a Token, for 2 s.
func (e *Engine) Lock(ctx context.Context, s Session, r Request) (Grant, error) {
	k, _, err := e.prepare(ctx, s, r.Name)
	if err != nil {
		return Grant{}, err
	}
	c, err := e.newCall(ctx, s, false, k, r)
	if err != nil {
		return Grant{}, err
	}
	defer e.ForgetAhead(s)
	a, err := e.obtain(ctx, c)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Token: c.req.Token, Fence: a.fence}, nil
}

// obtain waits if the caller does and there is room, else it asks once.
func (e *Engine) obtain(ctx context.Context, c *call) (answer, error) {
	if c.req.NoWait {
		return e.askOnce(ctx, c)
	}
	w := e.waiters.add(c.line, c.req.Token, false)
	if w == nil {
		return e.askOrRefuse(ctx, c)
	}
	e.follow(c, false)
	defer func() {
		e.waiters.remove(w)
		e.follow(c, false)
	}()
	return e.await(ctx, c, w)
}

// follow says that somebody has begun or ceased to wait for the call's name: channels may have to be
// subscribed.
func (e *Engine) follow(c *call, memo bool) {
	if memo {
		e.notif.changed(feed{c.notif, false}, c.name)
	}
	if e.waiters.named != nil {
		e.notif.changed(feed{c.locknotif, true}, c.name)
	}
}

// askOrRefuse serves a caller for whom there is no room to wait if it need not.
func (e *Engine) askOrRefuse(ctx context.Context, c *call) (answer, error) {
	a, err := e.askOnce(ctx, c)
	if errors.Is(err, ErrNotGranted) {
		err = ErrTooManyWaiters
	}
	return a, err
}

// Unlock gives the lock back, and on to the next in line, if token owns it; false if it does not. An empty
// token stands for the one last granted to s for this name in its database. Errors as for Lock.
func (e *Engine) Unlock(ctx context.Context, s Session, name, token string) (bool, error) {
	k, at, err := e.prepare(ctx, s, name)
	if err != nil {
		return false, err
	}
	if token == "" {
		var granted bool
		if token, granted = e.holds.lastToken(s, at); !granted {
			return false, nil
		}
	}
	undo := e.ending(s, at, token)
	next := e.waiters.head(at)
	sent := time.Now()
	reply, err := releaseScript.run(ctx, s, k.ofLine(), append(e.common(at, k), e.releaseArgs(token, next)...))
	if err != nil {
		undo()
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	released := f.number() == 1
	e.ringLocal(at, f.rings())
	if released && len(f.rest) > 0 {
		e.handed(at, next, f, sent)
	}
	if !released {
		undo()
	}
	return released, f.err
}

// releaseArgs are release's own arguments; next may be nil.
func (e *Engine) releaseArgs(token string, next *waiter) []any {
	if next == nil {
		return []any{token, "", 0, 0, "", 0}
	}
	c := next.call
	return []any{token, c.req.Token, int64(c.seq), c.req.Lease, c.own, e.fence.Load()}
}

// handed tells the waiter that a release has handed the lock to, and who is first behind it.
func (e *Engine) handed(at line, to *waiter, f *fields, sent time.Time) {
	g := grant{f.number(), sent}
	first := f.rings()
	if f.err != nil || to == nil {
		e.waiters.ringLine(at) // not a reply of ours
		return
	}
	ends := sent.Add(millis(to.call.req.Lease))
	e.waiters.handed(to, g)
	for _, r := range first {
		if !e.waiters.isFirst(uint64(r.seq), ends) {
			e.rung(bell{line: at, seq: uint64(r.seq), token: r.token})
		}
	}
}

// Extend lets the lease of token end in that many ms; false if it does not hold the lock or promise. What
// is held for as long as a connection stays as it is. Errors as for Lock.
func (e *Engine) Extend(ctx context.Context, s Session, name, token string, lease int64) (bool, error) {
	k, at, err := e.prepare(ctx, s, name)
	if err != nil {
		return false, err
	}
	reply, err := extendScript.run(ctx, s, k.ofLine(), append(e.common(at, k), token, e.bounded(lease)))
	if err != nil {
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	holds := f.number() == 1
	e.ringLocal(at, f.rings())
	if holds {
		e.holds.extended(s, at, token, time.Now().Add(longMillis(lease)))
	}
	return holds, f.err
}

// ringIfLost: a script may have handed the lock to one of ours, and the reply that says so is lost.
func (e *Engine) ringIfLost(at line, err error) {
	if isLost(err) {
		e.waiters.ringLine(at)
	}
}
