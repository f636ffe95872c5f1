package soak

import (
	"time"
)

// hold is a promise or a lock, and what its holder could rely on.
type hold struct {
	token   string
	promise bool
	asked   int64 // the call that was granted was sent (the first, if it was sent again)
	begin   int64 // the grant was known
	lease   int64 // it can't have run out before; 0: nothing is known
	proven  int64 // a call that was sent then was answered: the token holds it
	over    int64 // its release was sent; 0: not yet
	resent  bool
}

// end is until when nobody else can have had it.
func (e *entry) end(h hold) int64 {
	end := h.lease
	if h.over > 0 {
		end = min(end, h.over)
	}
	if h.promise {
		for _, f := range e.forgets {
			if f.ret == 0 || f.ret > h.asked {
				end = min(end, f.call)
			}
		}
	}
	if !h.resent {
		end = max(end, h.proven)
	}
	return end
}

// held checks a hold that is over, or out of its holder's hands, against the others.
func (e *entry) held(h hold) {
	e.mu.Lock()
	defer e.mu.Unlock()
	end := e.end(h)
	if end <= h.begin {
		return
	}
	e.did("trusted holds")
	for _, o := range e.holds {
		// A KS.FORGET may have come since.
		if until := e.end(o); o.token != h.token && h.begin < until && o.begin < end {
			e.wrong("%s held from %v until %v, %s from %v until %v", h.token, time.Duration(h.begin), time.Duration(end),
				o.token, time.Duration(o.begin), time.Duration(until))
		}
	}
	e.holds = append(e.holds, h)
	if len(e.holds) > 1000 {
		e.holds = append(e.holds[:0], e.holds[500:]...)
	}
}

// released checks the answer to KS.RESOLVE, KS.REJECT or KS.UNLOCK of h; call and ret are those of its only attempt.
func (e *entry) released(what string, h hold, call, ret int64, o outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.resent || !h.promise {
		return
	}
	revoked, maybe := false, false
	for _, f := range e.forgets {
		revoked = revoked || f.ret != 0 && f.call > h.begin && f.ret < call
		maybe = maybe || (f.ret == 0 || f.ret > h.asked) && f.call < ret
	}
	switch {
	case o == yes && revoked:
		e.wrong("%s of %s, granted at %v, answers 1 (sent at %v) after KS.FORGET was answered", what, h.token, time.Duration(h.begin), time.Duration(call))
	case o == no && !maybe && ret+margin < h.lease:
		e.wrong("%s of %s, granted at %v, answers 0 at %v, though its lease lasts until %v", what, h.token, time.Duration(h.begin), time.Duration(ret), time.Duration(h.lease))
	}
}
