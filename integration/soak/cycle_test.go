package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
)

// course is how a cycle goes.
type course struct {
	seed   uint64
	length time.Duration // in which things break
	calm   time.Duration // at most, between two faults
	quiet  time.Duration // in which what is left over must have gone
	brief  bool          // lines may outlast that: they stand for a minute
}

// cycle is a while in which things break, on names of its own, until all is mended and quiet.
type cycle struct {
	*faults.Field
	*report
	course
	entries []*entry
	serial  atomic.Int64
	tickets chan struct{}
	healed  atomic.Int64 // when all was mended; 0: not yet
}

// play is one cycle.
func play(t testing.TB, field *faults.Field, r *report, how course) {
	t.Helper()
	c := &cycle{Field: field, report: r, course: how, tickets: make(chan struct{}, 20)}
	c.name()
	r.say("seed %d: begins", c.seed)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	for i := range *clients {
		one := &client{cycle: c, id: i, random: rand.New(rand.NewPCG(c.seed, uint64(i)))}
		work.Go(func() { one.run(ctx) })
	}
	work.Go(func() { c.issue(ctx) })
	breaking := &faults.Injector{
		Field: field, T: t, Random: rand.New(rand.NewPCG(c.seed, 1<<32)), Count: r.broke,
		Least: 100 * time.Millisecond, Most: c.calm, Longest: 4 * time.Second, Rest: time.Second, Enough: r.enough,
	}
	breaking.Run(time.Now().Add(c.length))
	c.healed.Store(c.now())
	cancel()
	work.Wait()
	r.say("seed %d: all calls were answered %v after all was mended", c.seed, c.healedFor().Round(time.Millisecond))
	if r.enough() {
		return
	}
	began := time.Now()
	own := c.looksAfter(t)
	r.say("seed %d: clean after %v; own connections of the proxies: %d", c.seed, time.Since(began).Round(time.Millisecond), own)
	c.looksInside(t)
}

// name makes the entries: the same names in each database.
func (c *cycle) name() {
	all := []string{fmt.Sprintf("soak%d-plain", c.seed), fmt.Sprintf("soak%d:*[x]?:\xff\r\n", c.seed)}
	for i := range max(0, *names-len(all)) {
		all = append(all, fmt.Sprintf("soak%d:%d", c.seed, i))
	}
	for _, name := range all {
		for _, db := range databases {
			c.entries = append(c.entries, newEntry(c, db, name))
		}
	}
}

func (c *cycle) healedFor() time.Duration {
	if at := c.healed.Load(); at > 0 {
		return time.Duration(c.now() - at)
	}
	return 0
}

// pace waits until the client may begin something; false at the end.
func (c *cycle) pace(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c.tickets:
		return ctx.Err() == nil
	}
}

// issue lets the clients begin as many things as -soak.rate says.
func (c *cycle) issue(ctx context.Context) {
	const often = 10 * time.Millisecond
	tick := time.NewTicker(often)
	defer tick.Stop()
	due := 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due += float64(*rate) * often.Seconds(); due >= 1; due-- {
			select {
			case c.tickets <- struct{}{}:
			default:
			}
		}
	}
}
