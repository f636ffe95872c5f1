package engine

import (
	"math"
	"sync"
	"time"
)

// claimWindow is how long a hand-off holds before it is claimed; lua/line.lua has the same.
const claimWindow = 2 * time.Second

// claimsMost is how many lines that were handed to another proxy are watched.
const claimsMost = math.MaxInt

// lookout looks at lines when it is time to. However often a line is watched, it is looked at once, at the time that
// was named last. Beyond so many lines at a time it watches no more.
//
// One is for lines that this proxy handed to another. If that one is frozen, all who could notice may be frozen with
// it: so whoever hands over looks, once the claim window has passed, whether the line must go on. Another is for stale
// copies.
type lookout struct {
	most int
	look func(line)

	mu      sync.Mutex
	watched map[line]*watched
}

// watched is when to look at a line. The timer may fire before, when that was put off.
type watched struct {
	at    time.Time
	timer *time.Timer
}

func newLookout(most int, look func(line)) *lookout {
	return &lookout{most: most, look: look, watched: map[line]*watched{}}
}

func (o *lookout) watch(l line, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := time.Now().Add(wait)
	switch w := o.watched[l]; {
	case w == nil && len(o.watched) < o.most:
		o.watched[l] = &watched{at, time.AfterFunc(wait, func() { o.passed(l) })}
	case w == nil:
	case at.Before(w.at):
		w.at = at
		w.timer.Reset(wait)
	default:
		w.at = at
	}
}

// close stops watching.
func (o *lookout) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.most = 0
	for l, w := range o.watched {
		w.timer.Stop()
		delete(o.watched, l)
	}
}

// passed looks, or waits on if that was put off.
func (o *lookout) passed(l line) {
	o.mu.Lock()
	w := o.watched[l]
	if w == nil { // another look came first
		o.mu.Unlock()
		return
	}
	if rest := time.Until(w.at); rest > 0 {
		w.timer.Reset(rest)
		o.mu.Unlock()
		return
	}
	delete(o.watched, l)
	o.mu.Unlock()
	o.look(l)
}
