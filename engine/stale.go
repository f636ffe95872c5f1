package engine

import (
	"context"
	"time"
)

// A stale copy tells when the TTL of its value ends, so whoever misses the value before that knows that it was
// deleted, and drops the copy. If nobody asks in that time a deletion can't be told from the end of the TTL any more: so
// the proxy that stored the value looks just before. Nothing but that depends on the look.

// copiesMost is how many copies a proxy looks after.
const copiesMost = 100_000

// copyLead is how long before the end of its TTL a value is looked at; more than lua/resolve.lua is unsure of that end.
const copyLead = 100 * time.Millisecond

// beforeItEnds is when to look, from the time at which a value with a TTL of so many ms was sent.
func beforeItEnds(ttl int64) time.Duration {
	d := longMillis(ttl)
	return d - min(copyLead, d/2)
}

// lookAtCopy drops the stale copy of a name if the value is not there any more, or another.
func (e *Engine) lookAtCopy(l line) {
	e.spawn(func() {
		ctx, cancel := context.WithTimeout(e.run, valuePatience)
		defer cancel()
		if _, err := e.readValue(ctx, l, true); err != nil {
			e.log.Debug("a stale copy was not looked at", "name", l.name, "err", err)
		}
	})
}
