package engine

import (
	"context"
	"errors"
)

// Grant is a lock: Token proves ownership, Fence is larger than that of every earlier grant.
type Grant struct {
	Token string
	Fence int64
}

// Lock waits in line for the lock and takes it. Errors: ErrNotGranted, ErrInvalidName,
// ErrTooManyWaiters, UnavailableError, a RedisError in Redis's own words, the cause of ctx when it ended
// while the call waited, or that of a session that broke. But for a session that broke, nothing is left
// behind in Redis after an error.
func (e *Engine) Lock(ctx context.Context, s Session, r Request) (Grant, error) {
	k, err := keysOf(r.Name, e.cfg.TagSplit)
	if err != nil {
		return Grant{}, err
	}
	if err := e.ready.check(); err != nil {
		return Grant{}, err
	}
	c := e.newCall(s, false, k, r)
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
	w, _ := e.waiters.add(c.line, false)
	if w == nil {
		return e.askOrRefuse(ctx, c)
	}
	defer e.waiters.remove(w)
	return e.await(ctx, c, w)
}

// askOrRefuse serves a caller for whom there is no room to wait if it need not.
func (e *Engine) askOrRefuse(ctx context.Context, c *call) (answer, error) {
	a, err := e.askOnce(ctx, c)
	if errors.Is(err, ErrNotGranted) {
		err = ErrTooManyWaiters
	}
	return a, err
}

// Unlock gives the lock back, and on to the next in line, if token owns it; false if it does not.
// Errors as for Lock.
func (e *Engine) Unlock(ctx context.Context, s Session, name, token string) (bool, error) {
	k, err := keysOf(name, e.cfg.TagSplit)
	if err != nil {
		return false, err
	}
	if err := e.ready.check(); err != nil {
		return false, err
	}
	at := line{s.DB(), name}
	reply, err := releaseScript.run(ctx, s, k.ofLine(), append(e.common(at, k), token))
	if err != nil {
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	released := f.number() == 1
	e.ringLocal(at, f.seqs())
	return released, f.err
}

// ringIfLost: a script may have handed the lock to one of ours, and the reply that says so is lost.
func (e *Engine) ringIfLost(at line, err error) {
	if isLost(err) {
		e.waiters.ringLine(at)
	}
}
