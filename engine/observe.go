package engine

import (
	"context"
	"time"
)

// holding is a hold as a KS.WAIT caller knows it: a token may be granted again, then with a later fence.
type holding struct {
	token string
	fence string // empty: handed over, not claimed yet
	left  int64  // ms; -1: no end known
	free  bool
}

// same reports whether now is still the hold that was.
func (was holding) same(now holding) bool {
	return !now.free && now.token == was.token && (was.fence == "" || now.fence == was.fence)
}

// Wait waits, for wait ms at most (0: no bound), until the hold of name that stands now has ended; false if it
// has not. It returns at once if nobody holds. Errors as for Lock, but for ErrNotGranted.
func (e *Engine) Wait(ctx context.Context, s Session, name string, wait int64) (bool, error) {
	k, at, err := e.prepare(ctx, s, name)
	if err != nil {
		return false, err
	}
	w := e.waiters.addObserver(at)
	if w == nil {
		return false, ErrTooManyWaiters
	}
	c := &call{line: at, s: s, keys: k.ofLine(), notif: k.notif, locknotif: k.locknotif}
	e.follow(c, false)
	defer func() {
		e.waiters.removeObserver(w)
		e.follow(c, false)
	}()
	defer e.ForgetAhead(s)
	e.ahead.waits(s, w)

	var over <-chan time.Time
	if wait > 0 {
		end := time.NewTimer(millis(wait))
		defer end.Stop()
		over = end.C
	}
	var was holding
	for first := true; ; first = false {
		w.drain()
		now, err := e.observe(ctx, c, k)
		if err != nil {
			return false, err
		}
		if first {
			was = now
		}
		if now.free || !was.same(now) {
			return true, nil
		}
		was = now
		if err := e.deadlock(ctx, c); err != nil {
			return false, err
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		again := time.NewTimer(nextAsk(answer{left: now.left}))
		select {
		case <-w.bell:
		case <-again.C:
		case <-over:
			again.Stop()
			return false, nil
		case <-ctx.Done():
		}
		again.Stop()
	}
}

func (e *Engine) observe(ctx context.Context, c *call, k keys) (holding, error) {
	reply, err := observeScript.run(ctx, c.s, c.keys, e.common(c.line, k))
	if err != nil {
		return holding{}, err
	}
	f := fieldsOf(reply)
	if f.text() == "free" {
		return holding{free: true}, f.err
	}
	return holding{token: f.text(), fence: f.text(), left: f.number()}, f.err
}
