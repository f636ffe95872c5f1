package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// lull is how long Redis is watched after all of a herd are answered.
const lull = 2 * time.Second

// commands lists what Redis is asked, by command, for the largest herd: while it gathers, while it waits, when it is
// answered, and afterwards.
func (b *bench) commands(ctx context.Context, out io.Writer) error {
	n := b.most()
	h, err := b.gather(n)
	defer h.leave()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "calls in Redis, %d waiters\tseconds\tcalls\tper waiter\tby name (within scripts, too)\n", n)
	var name, token string
	for _, phase := range []struct {
		name string
		run  func() error
	}{
		{"all ask", func() error { name, token, err = h.wait(ctx); return err }},
		{"they wait", func() error { return pause(ctx, b.idle) }},
		{"KS.RESOLVE to the last", func() error { return h.wake(name, token, "what the generator made") }},
		{"and then", func() error { return pause(ctx, lull) }},
	} {
		before, err := b.usage(ctx)
		if err != nil {
			return err
		}
		if err := phase.run(); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		after, err := b.usage(ctx)
		if err != nil {
			return err
		}
		calls := after.calls.Since(before.calls)
		writeCalls(out, phase.name, n, after.at.Sub(before.at), calls)
	}
	return nil
}

// writeCalls writes a row, with as many more as the names need.
func writeCalls(out io.Writer, name string, n int, took time.Duration, calls process.Calls) {
	sum := calls.Sum()
	fmt.Fprintf(out, "%s\t%.2f\t%d\t%.3f\t", name, took.Seconds(), sum, float64(sum)/float64(n))
	const perLine = 7
	list := strings.Split(calls.Each(1), ", ")
	for len(list) > perLine {
		fmt.Fprintf(out, "%s\n\t\t\t\t", strings.Join(list[:perLine], ", "))
		list = list[perLine:]
	}
	fmt.Fprintf(out, "%s\n", strings.Join(list, ", "))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// wake keeps the promise and returns when all of the herd have the value.
func (h *herd) wake(name, token, value string) error {
	now := make(chan struct{})
	close(now)
	collected := h.collect(value, now)
	if err := h.generator.resolve(name, token, value, "EX", "60"); err != nil {
		return err
	}
	_, err := collected()
	return err
}
