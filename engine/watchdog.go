package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// The watchdog renews the locks that sessions hold: every third of the TTL, all that are due in one
// pipeline. An attempt takes a sixth at most, so two more fit in before a lock counts as lost, which is 5 %
// before it runs out, reckoned from before the last renewal that succeeded was sent.
type watchdog struct {
	e    *Engine
	news []lost // of locks that were lost while Redis could not be told
}

// lost is a lost lock that is still to be published.
type lost struct {
	channel, token string
	since          time.Time
}

// newsAge is for how long the publication of a lost lock is tried.
const newsAge = time.Minute

// renewMost is how many locks are renewed in one pipeline.
const renewMost = 1000

func (d *watchdog) run(ctx context.Context) {
	ttl := d.e.holds.ttl
	timer := time.NewTimer(ttl)
	defer timer.Stop()
	for {
		select {
		case <-d.e.holds.changed:
		case <-timer.C:
			d.round(ctx)
		case <-ctx.Done():
			return
		}
		timer.Reset(d.pause())
	}
}

// pause is the time until something is due.
func (d *watchdog) pause() time.Duration {
	hs := d.e.holds
	pause := hs.ttl
	if len(d.news) > 0 {
		pause = min(pause, time.Second)
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, h := range hs.held {
		pause = min(pause, time.Until(h.next), time.Until(hs.trustEnds(h)))
	}
	pause = max(pause, 0)
	hs.wakes = time.Now().Add(pause)
	return pause
}

// trustEnds is when a hold that could not be renewed counts as lost.
func (hs *holds) trustEnds(h *hold) time.Time { return h.trusted.Add(hs.ttl - hs.ttl/20) }

// round renews what is due, or will be shortly.
func (d *watchdog) round(ctx context.Context) {
	hs := d.e.holds
	soon := time.Now().Add(hs.ttl / 30)
	var due []*hold
	hs.mu.Lock()
	for _, h := range hs.held {
		if h.next.Before(soon) {
			due = append(due, h)
		}
	}
	hs.mu.Unlock()
	renewing, cancel := context.WithTimeout(ctx, hs.ttl/6) // all of them: a stall may not cost a while for each
	for len(due) > 0 {
		n := min(len(due), renewMost)
		d.renew(renewing, due[:n])
		due = due[n:]
	}
	cancel()
	d.expire()
	d.publish(ctx)
}

// What a renewal can say.
const (
	renewLost       = 0
	renewed         = 1
	renewSuperseded = 2 // a later call with the same token has it, or it is a lease by now
	renewEnded      = 3 // by its token
	renewRevoked    = 4 // by Forget, which has published it
)

// renew runs one renew script for each, in one pipeline.
func (d *watchdog) renew(ctx context.Context, due []*hold) {
	calls := make([]scriptCall, len(due))
	for i, h := range due {
		k, _ := keysOf(h.name, d.e.cfg.TagSplit) // was valid when it was asked
		calls[i] = scriptCall{k.ofLine(), append(d.e.common(h.line, k), h.token, int64(h.seq), d.e.LockTTL())}
	}
	sent := time.Now()
	for i, r := range d.e.own.conn().runAll(ctx, renewScript, calls) {
		said, ok := r.reply.(int64)
		if r.err != nil || !ok {
			d.notRenewed(due[i], r.err)
			said = -1
		}
		d.settle(due[i], said, sent)
	}
}

// notRenewed logs why; what Redis will go on to refuse is worth a warning.
func (d *watchdog) notRenewed(h *hold, err error) {
	level := slog.LevelDebug
	if err != nil && !isTransient(err) {
		level = slog.LevelWarn
	}
	d.e.log.Log(context.Background(), level, "session lock was not renewed, trying again", "name", h.name, "err", err)
}

// settle books what a renewal said. A hold that was given up meanwhile is not in the set any more, and
// nothing is said of it.
func (d *watchdog) settle(h *hold, said int64, sent time.Time) {
	hs := d.e.holds
	hs.mu.Lock()
	current := hs.held[h.seq] == h
	if current {
		switch said {
		case renewed:
			h.trusted = sent
			if sent.After(h.doubted) {
				h.next, h.doubted, h.forgiven = sent.Add(hs.ttl/3), time.Time{}, false
			}
		case renewLost:
			if h.lost = h.quiet; h.lost { // to be told when the caller knows of it
				h.next = sent.Add(hs.ttl / 3)
			} else {
				hs.drop(h)
			}
		case renewSuperseded, renewEnded, renewRevoked:
			hs.drop(h)
		default: // Redis is away or busy: nobody knows
			h.next = time.Now().Add(hs.ttl / 12)
		}
	}
	quiet := h.quiet || h.forgiven && said == renewLost
	hs.mu.Unlock()
	switch {
	case !current || quiet:
	case said == renewLost:
		d.tell(h)
	case said == renewRevoked:
		h.pushLost()
	}
}

// expire gives up those who could not be renewed for so long that they may have run out.
func (d *watchdog) expire() {
	hs := d.e.holds
	var ended []*hold
	hs.mu.Lock()
	for _, h := range hs.held {
		if !time.Now().Before(hs.trustEnds(h)) {
			hs.drop(h)
			ended = append(ended, h)
		}
	}
	hs.mu.Unlock()
	for _, h := range ended {
		d.e.leaver.add(h.line, h.departure()) // if it stands after all
		if !h.quiet && !h.forgiven {
			d.tell(h)
		}
	}
}

// tell says that a lock is lost: to the client, if it can be told, and at the end of the round to whoever
// listens.
func (d *watchdog) tell(h *hold) {
	d.e.log.Warn("a session lock is lost: it was deleted, or could not be renewed in time", "name", h.name, "db", h.db)
	h.pushLost()
	k, _ := keysOf(h.name, d.e.cfg.TagSplit)
	d.news = append(d.news, lost{k.locklost, h.token, time.Now()})
}

// publish sends the news in one pipeline, and keeps what can't be sent.
func (d *watchdog) publish(ctx context.Context) {
	if len(d.news) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.e.holds.ttl/6)
	defer cancel()
	pipe := d.e.own.conn().client.Pipeline()
	sent := make([]*redis.IntCmd, len(d.news))
	for i, n := range d.news {
		sent[i] = pipe.Publish(ctx, n.channel, n.token)
	}
	_, _ = pipe.Exec(ctx) // each has its error
	var kept []lost
	for i, n := range d.news {
		_, err := ownReply(nil, sent[i].Err())
		switch {
		case err == nil:
		case isTransient(err) && time.Since(n.since) < newsAge:
			kept = append(kept, n)
		default:
			d.e.log.Warn("that a lock is lost could not be published", "channel", n.channel, "err", err)
		}
	}
	d.news = kept
}
