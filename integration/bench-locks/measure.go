package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// allCases are what is measured: one worker alone, all with a lock each, and all
// with the same lock.
var allCases = []string{"single", "free", "contended"}

// warmUp is how long each contestant runs in each case before figures are taken:
// connections, scripts, the first growth of heaps and buffers are in it.
const warmUp = 200 * time.Millisecond

// A measurement is what one run of a contestant in a case gave.
type measurement struct {
	perSecond            float64 // pairs of all workers
	pair, wait, hand     percentiles
	again                float64 // of 100 hand-offs, those to the worker that had just let go
	redis, proxy, client float64 // µs on a core per pair
}

// percentiles are in ms.
type percentiles struct{ p50, p99 float64 }

func percentilesOf(times []time.Duration) percentiles {
	slices.Sort(times)
	return percentiles{
		p50: figures.Milliseconds(figures.Percentile(times, 50)),
		p99: figures.Milliseconds(figures.Percentile(times, 99)),
	}
}

// measureAll lets the contestants take turns; who begins changes with the round.
func (b *bench) measureAll(ctx context.Context) (*results, error) {
	r := &results{options: b.options, runs: map[cell][]measurement{}}
	for _, c := range b.contestants {
		r.contestants = append(r.contestants, c.name)
		for _, name := range b.cases {
			if _, err := b.measure(ctx, c, name, warmUp); err != nil {
				return nil, fmt.Errorf("warm-up, %s, %s: %w", c.name, name, err)
			}
		}
	}
	for round := range b.rounds {
		for _, name := range b.cases {
			for i := range b.contestants {
				c := b.contestants[(i+round)%len(b.contestants)]
				m, err := b.measure(ctx, c, name, b.duration)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", c.name, name, err)
				}
				key := cell{name, c.name}
				r.runs[key] = append(r.runs[key], m)
			}
		}
		fmt.Printf("round %d of %d is done\n", round+1, b.rounds)
	}
	return r, nil
}

// measure runs a case for some time. Who is in line at the end of it still gets
// the lock once: else the longest waits would be missing.
func (b *bench) measure(ctx context.Context, c *contestant, name string, duration time.Duration) (measurement, error) {
	workers := b.crew(c.name, name)
	from, err := b.usage(c.relay)
	if err != nil {
		return measurement{}, err
	}
	if err := work(ctx, workers, c.lock, from.at.Add(duration), stuck); err != nil {
		return measurement{}, err
	}
	to, err := b.usage(c.relay)
	if err != nil {
		return measurement{}, err
	}
	return from.until(to, workers), nil
}

// crew are the workers of a case. Each contestant has locks of its own.
func (b *bench) crew(contestant, name string) []*worker {
	shared := &hold{name: "bench:" + contestant}
	var workers []*worker
	for i := range b.crewSize(name) {
		w := &worker{number: int32(i + 1), hold: shared}
		if name == "free" {
			w.hold = &hold{name: fmt.Sprintf("bench:%s:%d", contestant, i)}
		}
		workers = append(workers, w)
	}
	return workers
}

func (o options) crewSize(name string) int {
	if name == "single" {
		return 1
	}
	return o.workers
}

// usage is what has been used up so far.
type usage struct {
	at                   time.Time
	redis, proxy, client time.Duration // on a core; proxy is what is between the contestant and Redis
}

func (b *bench) usage(relay *process.Server) (u usage, err error) {
	if u.redis, err = process.CPUTime(b.redis.Pid()); err != nil {
		return u, err
	}
	if relay != nil {
		if u.proxy, err = process.CPUTime(relay.Pid()); err != nil {
			return u, err
		}
	}
	u.client, err = process.CPUTime(os.Getpid())
	u.at = time.Now()
	return u, err
}

// until sums up what the workers did between two moments.
func (u usage) until(v usage, workers []*worker) measurement {
	var pairs, waits, hands []time.Duration
	again := 0
	for _, w := range workers {
		pairs, waits, hands = append(pairs, w.pairs...), append(waits, w.waits...), append(hands, w.hands...)
		again += w.again
	}
	perPair := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(len(pairs)) }
	return measurement{
		perSecond: float64(len(pairs)) / v.at.Sub(u.at).Seconds(),
		pair:      percentilesOf(pairs),
		wait:      percentilesOf(waits),
		hand:      percentilesOf(hands),
		again:     100 * float64(again) / float64(max(1, len(hands))),
		redis:     perPair(v.redis - u.redis),
		proxy:     perPair(v.proxy - u.proxy),
		client:    perPair(v.client - u.client),
	}
}
