package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// A pairLoad is so many clients, in turn on each proxy, with so many pairs in flight each.
type pairLoad struct{ clients, pipeline int }

// pairs measures misses that are resolved: KS.MEMO of a new name, and KS.RESOLVE.
func (b *bench) pairs(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "a miss and its KS.RESOLVE\tin flight\tpairs/s\tproxies' CPU µs\tRedis CPU µs\t")
	for _, l := range []pairLoad{{1, 1}, {1, 16}, {50, 1}, {50, 16}} {
		if err := b.pairRow(ctx, out, l); err != nil {
			return fmt.Errorf("pairs, %+v: %w", l, err)
		}
	}
	return nil
}

func (b *bench) pairRow(ctx context.Context, out io.Writer, l pairLoad) error {
	var clients []*client
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for i := range l.clients {
		c, err := dial(b.proxies[i%proxies])
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	var rate, proxyCPU, redisCPU []float64
	for round := range b.rounds + 1 {
		before, err := b.usage(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		done, err := b.pairRun(clients, l.pipeline)
		if err != nil {
			return err
		}
		took := time.Since(began)
		after, err := b.usage(ctx)
		if err != nil {
			return err
		}
		if round == 0 {
			continue // it warms up
		}
		each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(done) }
		rate = append(rate, float64(done)/took.Seconds())
		proxyCPU, redisCPU = append(proxyCPU, each(after.proxies-before.proxies)), append(redisCPU, each(after.redis-before.redis))
		if err := b.admin.FlushDB(ctx).Err(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%d clients\t%d\t%.0f\t%.1f\t%.1f\t\n",
		l.clients, l.pipeline, figures.Median(rate), figures.Median(proxyCPU), figures.Median(redisCPU))
	return err
}

// pairRun has all clients make their share of the pairs.
func (b *bench) pairRun(clients []*client, pipeline int) (done int, err error) {
	each := max(b.options.pairs/len(clients)/pipeline, 1)
	failed := make([]error, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		b.names++
		first := b.names
		all.Go(func() { failed[i] = c.pairs(fmt.Sprintf("bench:pair%d", first), each, pipeline) })
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return each * pipeline * len(clients), nil
}

// pairs makes pairs, so many in flight, batch after batch: first the questions, then the answers to them.
func (c *client) pairs(name string, batches, pipeline int) error {
	var asks, resolves []byte
	for batch := range batches {
		asks, resolves = asks[:0], resolves[:0]
		for i := range pipeline {
			name, token := fmt.Sprintf("%s-%d-%d", name, batch, i), fmt.Sprint("token", i)
			asks = append(asks, command("KS.MEMO", name, "TOKEN", token)...)
			resolves = append(resolves, command("KS.RESOLVE", name, token, "v", "EX", "60")...)
		}
		if err := c.batch(asks, pipeline, "generate"); err != nil {
			return err
		}
		if err := c.batch(resolves, pipeline, "1"); err != nil {
			return err
		}
	}
	return nil
}

// batch sends n commands and checks how their replies begin.
func (c *client) batch(commands []byte, n int, want string) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(commands); err != nil {
		return err
	}
	for range n {
		got, err := c.reply()
		if err != nil {
			return err
		}
		if got[0] != want {
			return fmt.Errorf("answered %.80q, want %q", got, want)
		}
	}
	return nil
}
