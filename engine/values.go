package engine

import (
	"context"
	"sync"
	"time"
)

// valuePatience bounds one GET on behalf of this proxy's memo callers; they have timers of their own.
const valuePatience = 5 * time.Second

// flights sees to it that at most one GET per line is under way, whatever number of callers and bells.
type flights struct {
	mu    sync.Mutex
	again map[line]flight // lines with a GET under way
}

// flight is a GET under way.
type flight struct {
	again  bool // rung meanwhile, so once more
	struck bool // one of those who rang has struck our memo callers from the line
}

// takeOff reports whether the caller is to fly; else the one under way flies again.
func (f *flights) takeOff(l line, struck bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	under, flying := f.again[l]
	if flying {
		under = flight{true, under.struck || struck}
	}
	f.again[l] = under
	return !flying
}

// land reports whether to fly once more, and whether for who was struck.
func (f *flights) land(l line) (again, struck bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	under := f.again[l]
	if under.again {
		f.again[l] = flight{}
	} else {
		delete(f.again, l)
	}
	return under.again, under.struck
}

// fetch gets the value of l once for all memo callers that wait now. A caller who comes while the GET
// is under way is not served by it: he may have deleted the value before he asked.
func (e *Engine) fetch(l line, struck bool) {
	if !e.flight.takeOff(l, struck) {
		return
	}
	started := e.spawn(func() {
		for again := true; again; again, struck = e.flight.land(l) {
			e.fetchOnce(l, struck)
		}
	})
	if !started {
		e.flight.land(l)
	}
}

// news is what a memo caller's ask has found: with a value, or a rejection, that nobody was told of, the others
// need not wait for timers of their own.
func (e *Engine) news(w *waiter, a answer) {
	if w.value == nil {
		return
	}
	switch a.verdict {
	case valued:
		e.fetch(w.line, false)
	case rejected:
		if w.rung {
			return // and so were they
		}
		for _, other := range e.waiters.memoCallers(w.line) {
			other.ring()
		}
	}
}

func (e *Engine) fetchOnce(l line, struck bool) {
	callers := e.waiters.memoCallers(l)
	if len(callers) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(e.run, valuePatience)
	defer cancel()
	reply, err := e.readValue(ctx, l, false)
	value, ok := reply.(string)
	switch {
	case err == nil && ok:
		serveAll(callers, served{value: value, struck: struck})
	case err != nil || struck:
		// We can't say, or the value is gone and with it the places: each asks for himself, with his
		// own rights.
		for _, w := range callers {
			w.ring()
		}
	}
}

// readValue reads a value on the engine's own connection; onlyCopy: it is for the stale copy's sake alone.
func (e *Engine) readValue(ctx context.Context, l line, onlyCopy bool) (any, error) {
	k, _ := keysOf(l.name, e.cfg.TagSplit) // was valid when it was asked for
	return valueScript.run(ctx, e.own.conn(), []string{k.value, k.stale}, []any{l.db, "", asFlag(onlyCopy)})
}

// serveAll answers all of them with a value.
func serveAll(callers []*waiter, s served) {
	s.shared = &Shared{}
	for _, w := range callers {
		w.serve(s)
	}
}

// areStruck: a script took this proxy's memo callers out of the line, so they need not leave it. Some may have been
// served already, because another message told of the value.
func (e *Engine) areStruck(l line) {
	for _, w := range e.waiters.memoCallers(l) {
		w.struck.Store(true)
	}
	e.leaver.forget(l)
}

// resolved: another proxy's RESOLVE stored the value and struck our memo callers from the line.
func (e *Engine) resolved(b bell) {
	e.areStruck(b.line)
	if b.hasValue {
		serveAll(e.waiters.memoCallers(b.line), served{value: b.value, fence: b.fence, struck: true})
		return
	}
	e.fetch(b.line, true)
}

// resolvedHere: this proxy's own RESOLVE. Those who waited before it was sent get the value as it is;
// others look it up.
func (e *Engine) resolvedHere(at line, before []*waiter, value string) {
	e.areStruck(at)
	serveAll(before, served{value: value, struck: true})
	e.fetch(at, true)
}

// rejected: a promise, whose fence is given, was rejected, and our memo callers are struck from the line. Of
// those who wait now it is answered to who waited for that promise; others ask.
func (e *Engine) rejected(at line, fence int64, message string) {
	e.areStruck(at)
	for _, w := range e.waiters.memoCallers(at) {
		if since := w.since.Load(); since >= 0 && since <= fence {
			w.serve(served{value: message, struck: true, rejected: true})
		} else {
			w.ring()
		}
	}
}
