package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// memory measures what clients that wait cost the proxies, and then what a large value does that all of them are
// answered with: the value should be there once in a proxy, whether its clients take it at once or in two seconds.
func (b *bench) memory(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "RSS of all proxies\tbefore MB\tconnected MB\tKB each\twaiting MB\tKB each\tanswered MB\tKB each\tat most MB\tKB each\t")
	for _, m := range []struct {
		name    string
		waiters int
		value   int
		held    time.Duration // until the clients read
	}{
		{"small value", b.most(), 16, 0},
		{"1 MB, read at once", b.large, 1 << 20, 0},
		{"1 MB, read after 2 s", b.large, 1 << 20, 2 * time.Second},
	} {
		if err := b.memoryRow(ctx, out, m.name, m.waiters, m.value, m.held); err != nil {
			return fmt.Errorf("memory, %s: %w", m.name, err)
		}
	}
	return nil
}

// memoryRow starts servers of its own: what others have left in the heaps would blur it.
func (b *bench) memoryRow(ctx context.Context, out io.Writer, name string, n, size int, held time.Duration) error {
	own, err := start(ctx, b.options)
	if err != nil {
		return err
	}
	defer own.stop()
	before, err := own.settled(ctx)
	if err != nil {
		return err
	}
	h, err := own.gather(n)
	defer h.leave()
	if err != nil {
		return err
	}
	connected, err := own.settled(ctx)
	if err != nil {
		return err
	}
	key, token, err := h.wait(ctx)
	if err != nil {
		return err
	}
	waiting, err := own.settled(ctx)
	if err != nil {
		return err
	}
	for _, p := range own.proxies {
		if err := process.ResetPeak(p.Pid()); err != nil {
			return err
		}
	}
	value, read := strings.Repeat("v", size), make(chan struct{})
	collected := h.collect(value, read)
	timer := time.AfterFunc(held, func() { close(read) })
	defer timer.Stop()
	if err := h.generator.resolve(key, token, value); err != nil {
		return err
	}
	if _, err := collected(); err != nil {
		return err
	}
	answered, err := own.resident()
	if err != nil {
		return err
	}
	var peak int64
	for _, p := range own.proxies {
		most, err := process.PeakOf(p.Pid())
		if err != nil {
			return err
		}
		peak += most
	}
	fmt.Fprintf(out, "%d waiters, %s\t%.1f", n, name, megabytes(before))
	for _, now := range []int64{connected, waiting, answered, peak} {
		fmt.Fprintf(out, "\t%.1f\t%.1f", megabytes(now), float64(now-before)/1024/float64(n))
	}
	fmt.Fprintln(out, "\t")
	return nil
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// resident is what all proxies have in memory.
func (b *bench) resident() (sum int64, err error) {
	for _, p := range b.proxies {
		m, err := process.MemoryOf(p.Pid())
		if err != nil {
			return 0, err
		}
		sum += m.RSS
	}
	return sum, nil
}

// settled is resident after a while, so that what was let go of is seen to be.
func (b *bench) settled(ctx context.Context) (int64, error) {
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	return b.resident()
}
