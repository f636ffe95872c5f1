package engine

import (
	"math/rand/v2"
	"sync"
	"time"
)

// claimWindow is how long a hand-off holds before it is claimed; lua/line.lua has the same.
const claimWindow = 2 * time.Second

// claims watches lines that this proxy handed to another. If that one is frozen, all who could notice may
// be frozen with it: so whoever hands over looks, once the claim window has passed, whether the line must
// go on. However many hand-overs follow one another, a line is looked at once, after the last.
type claims struct {
	look func(line)

	mu      sync.Mutex
	watched map[line]time.Time // when the last window will have passed
}

func newClaims(look func(line)) *claims {
	return &claims{look: look, watched: map[line]time.Time{}}
}

func (c *claims) watch(l line) {
	wait := claimWindow + leaseGrace + rand.N(leaseJitter)
	c.mu.Lock()
	_, watched := c.watched[l]
	c.watched[l] = time.Now().Add(wait)
	c.mu.Unlock()
	if !watched {
		time.AfterFunc(wait, func() { c.passed(l) })
	}
}

// passed looks, or waits on if there were further hand-overs.
func (c *claims) passed(l line) {
	c.mu.Lock()
	rest := time.Until(c.watched[l])
	if rest <= 0 {
		delete(c.watched, l)
	}
	c.mu.Unlock()
	if rest > 0 {
		time.AfterFunc(rest, func() { c.passed(l) })
		return
	}
	c.look(l)
}
