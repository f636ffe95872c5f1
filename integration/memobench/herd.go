package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// herd is many clients of all proxies that wait for one value.
type herd struct {
	*bench
	generator *client // of the first proxy
	waiters   []*client
}

// gather connects n waiters, in turn to each proxy.
func (b *bench) gather(n int) (h *herd, err error) {
	h = &herd{bench: b}
	if h.generator, err = dial(b.proxies[0]); err != nil {
		return h, err
	}
	for i := range n {
		c, err := dial(b.proxies[i%proxies])
		if err != nil {
			return h, fmt.Errorf("client %d: %w", i+1, err)
		}
		h.waiters = append(h.waiters, c)
		if _, err := c.do("PING"); err != nil { // or the backlog overflows
			return h, fmt.Errorf("client %d: %w", i+1, err)
		}
	}
	return h, nil
}

func (h *herd) leave() {
	for _, c := range append(h.waiters, h.generator) {
		if c != nil {
			c.Close()
		}
	}
}

// wait gets the promise of a new name for the generator and has everybody else wait for the value.
func (h *herd) wait(ctx context.Context) (name, token string, err error) {
	name = h.newName()
	if token, err = h.generator.generate(name, "EX", "600"); err != nil {
		return name, token, err
	}
	for _, c := range h.waiters {
		if err := c.send("KS.MEMO", name); err != nil {
			return name, token, err
		}
	}
	return name, token, h.awaitLine(ctx, name, len(h.waiters))
}

// collect reads what each waiter is answered, which must be value, from when start is closed, and returns when each
// had all of it.
func (h *herd) collect(value string, start <-chan struct{}) func() ([]time.Time, error) {
	want := fmt.Appendf(nil, "*2\r\n$5\r\nvalue\r\n$%d\r\n%s\r\n", len(value), value)
	at, failed := make([]time.Time, len(h.waiters)), make([]error, len(h.waiters))
	var all sync.WaitGroup
	for i, c := range h.waiters {
		all.Go(func() {
			<-start
			failed[i] = c.expect(want)
			at[i] = time.Now()
		})
	}
	return func() ([]time.Time, error) {
		all.Wait()
		return at, errors.Join(failed...)
	}
}

// expect reads exactly these bytes.
func (c *client) expect(want []byte) error {
	scratch := make([]byte, min(len(want), 64<<10))
	for len(want) > 0 {
		n, err := io.ReadAtLeast(c.in, scratch[:min(len(want), len(scratch))], 1)
		if err != nil {
			return err
		}
		if !bytes.Equal(scratch[:n], want[:n]) {
			return fmt.Errorf("a waiter is answered %.80q, not %.80q", scratch[:n], want[:n])
		}
		want = want[n:]
	}
	return nil
}

// wake is how one herd was woken.
type wake struct {
	half, last     time.Duration // until so many were answered, from when the resolve was sent
	proxies, redis time.Duration // on a core
	calls          process.Calls
}

// round has the herd wait for a value and wakes it.
func (h *herd) round(ctx context.Context) (w wake, err error) {
	const value = "what the generator made"
	name, token, err := h.wait(ctx)
	if err != nil {
		return w, err
	}
	now := make(chan struct{})
	close(now)
	collected := h.collect(value, now)
	before, err := h.usage(ctx)
	if err != nil {
		return w, err
	}
	began := time.Now()
	if err := h.generator.resolve(name, token, value, "EX", "60"); err != nil {
		return w, err
	}
	at, err := collected()
	if err != nil {
		return w, err
	}
	after, err := h.usage(ctx)
	slices.SortFunc(at, time.Time.Compare)
	return wake{
		half: at[len(at)/2].Sub(began), last: at[len(at)-1].Sub(began),
		proxies: after.proxies - before.proxies, redis: after.redis - before.redis,
		calls: after.calls.Since(before.calls),
	}, err
}

// herds wakes herds of each size.
func (b *bench) herds(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "KS.RESOLVE for a herd on three proxies\tgenerations\thalf answered ms\tlast answered ms\tat least ms\tat most ms\tproxies' CPU ms\tRedis CPU ms\tcalls in Redis\t")
	for _, n := range b.herdSizes {
		if err := b.herdRow(ctx, out, n); err != nil {
			return fmt.Errorf("%d waiters: %w", n, err)
		}
	}
	return nil
}

func (b *bench) herdRow(ctx context.Context, out io.Writer, n int) error {
	h, err := b.gather(n)
	defer h.leave()
	if err != nil {
		return err
	}
	var half, last, proxies, redis, calls []float64
	for range b.rounds {
		w, err := h.round(ctx)
		if err != nil {
			return err
		}
		half, last = append(half, figures.Milliseconds(w.half)), append(last, figures.Milliseconds(w.last))
		proxies, redis = append(proxies, figures.Milliseconds(w.proxies)), append(redis, figures.Milliseconds(w.redis))
		calls = append(calls, float64(w.calls.Sum()))
	}
	_, err = fmt.Fprintf(out, "%d waiters\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t\n", n, 1, figures.Median(half), figures.Median(last),
		slices.Min(last), slices.Max(last), figures.Median(proxies), figures.Median(redis), figures.Median(calls))
	return err
}
