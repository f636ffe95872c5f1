package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// A load is one kind of load: so many clients with so many requests in flight each.
type load struct{ clients, pipeline int }

// requests is how many requests take a second or two, if base of them do with
// many clients and no pipelining.
func (l load) requests(base int) int {
	if l.clients == 1 {
		base /= 10
	}
	if l.pipeline > 1 {
		base *= 5
	}
	return base
}

// A measurement is what one run of a load on one path gave.
type measurement struct {
	perSecond float64
	p50, p99  float64 // ms, as the client sees it
	relayCPU  float64 // µs of the relay per request; 0 on the direct path
	redisCPU  float64 // µs of Redis per request
}

func measureAll(ctx context.Context, s *servers, opts options) (*results, error) {
	r := &results{paths: s.paths, runs: map[cell][]measurement{}}
	for _, pipeline := range opts.pipelines {
		for _, clients := range opts.clients {
			r.loads = append(r.loads, load{clients, pipeline})
		}
	}
	if err := s.warmUp(ctx, opts.requests); err != nil {
		return nil, err
	}
	for round := range opts.rounds {
		for _, l := range r.loads {
			for _, path := range s.paths {
				m, err := s.measure(ctx, path, l, opts.requests)
				if err != nil {
					return nil, fmt.Errorf("%s, %+v: %w", path, l, errors.Join(s.died(), err))
				}
				key := cell{path, l}
				r.runs[key] = append(r.runs[key], m)
			}
		}
		fmt.Printf("round %d of %d is done\n", round+1, opts.rounds)
	}
	return r, nil
}

// warmUp runs one load on each path that no figure is taken of: page faults,
// the first growth of heaps and buffers and a core at rest are in it.
func (s *servers) warmUp(ctx context.Context, base int) error {
	for _, path := range s.paths {
		if _, err := s.measure(ctx, path, load{clients: 50, pipeline: 1}, base); err != nil {
			return fmt.Errorf("warm-up, %s: %w", path, errors.Join(s.died(), err))
		}
	}
	return nil
}

// runTimeout bounds one run of redis-benchmark, which takes seconds.
const runTimeout = 3 * time.Minute

// measure runs a load on a path. Throughput and CPU time are those between 10 %
// and 90 % of the requests, so that setting up and tearing down connections is
// in neither; the percentiles are redis-benchmark's own, of the whole run,
// except with one client.
func (s *servers) measure(ctx context.Context, path string, l load, base int) (measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	m, err := s.runClient(ctx, path, l, l.requests(base))
	if err == nil && l.clients == 1 {
		m.p50, m.p99, err = latency(ctx, s.to(path).Addr(), l.pipeline)
	}
	return m, err
}

func (s *servers) runClient(ctx context.Context, path string, l load, n int) (measurement, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	before, err := s.sample(ctx, path)
	if err != nil {
		return measurement{}, err
	}
	var out, complaints bytes.Buffer
	client := exec.CommandContext(ctx, "redis-benchmark", "-p", strconv.Itoa(s.to(path).Port), "--csv", "-t", "get",
		"-n", strconv.Itoa(n), "-c", strconv.Itoa(l.clients), "-P", strconv.Itoa(l.pipeline))
	client.Stdout, client.Stderr = &out, &complaints
	if err := client.Start(); err != nil {
		return measurement{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Wait(); close(ended) }()
	from, to, err := s.window(ctx, path, before, int64(n), ended)
	if err != nil {
		cancel()
		for range ended { // the client's output is complete once it has ended
		}
		return measurement{}, fmt.Errorf("%w: %s%s", err, out.String(), complaints.String())
	}
	reported, err := parseReport(out.String())
	if err != nil {
		return measurement{}, err
	}
	m := from.until(to)
	m.p50, m.p99 = reported.p50, reported.p99
	if from == before { // taken whole: until knows no better than with the start of the client in it
		m.perSecond = reported.perSecond
	}
	return m, nil
}

// window samples at 10 % and at 90 % of n requests and waits for the client to
// end. It asks every 20 ms, which costs Redis a few tenths of a percent. A run
// that is over sooner (a small -requests) is taken whole instead.
func (s *servers) window(ctx context.Context, path string, before sample, n int64, ended <-chan error) (from, to sample, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && to.requests == 0 {
				from = before
				to, err = s.sample(ctx, path)
			}
			return from, to, err
		case <-tick.C:
		}
		if to.requests > 0 {
			continue
		}
		now, err := s.sample(ctx, path)
		if err != nil {
			return from, to, err
		}
		switch done := now.requests - before.requests; {
		case from.requests == 0 && done >= n/10:
			from = now
		case from.requests > 0 && done >= n/10*9:
			to = now
		}
	}
}

// A sample is a moment in a run.
type sample struct {
	at           time.Time
	requests     int64 // GETs that Redis has answered in its life
	relay, redis time.Duration
}

func (s *servers) sample(ctx context.Context, path string) (now sample, err error) {
	stats, err := s.admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return now, err
	}
	now.at = time.Now()
	if _, rest, found := strings.Cut(stats, "cmdstat_get:calls="); found {
		digits, _, _ := strings.Cut(rest, ",")
		if now.requests, err = strconv.ParseInt(digits, 10, 64); err != nil {
			return now, err
		}
	}
	if relay := s.relays[path]; relay != nil {
		if now.relay, err = process.CPUTime(relay.Pid()); err != nil {
			return now, err
		}
	}
	now.redis, err = process.CPUTime(s.redis.Pid())
	return now, err
}

func (s sample) until(t sample) measurement {
	requests := float64(t.requests - s.requests)
	perRequest := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / requests }
	return measurement{
		perSecond: requests / t.at.Sub(s.at).Seconds(),
		relayCPU:  perRequest(t.relay - s.relay),
		redisCPU:  perRequest(t.redis - s.redis),
	}
}

// parseReport reads the output of redis-benchmark --csv.
func parseReport(out string) (m measurement, err error) {
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		return m, fmt.Errorf("output of redis-benchmark: %w", err)
	}
	if len(rows) != 2 {
		return m, fmt.Errorf("output of redis-benchmark: %q", out)
	}
	columns := map[string]*float64{"rps": &m.perSecond, "p50_latency_ms": &m.p50, "p99_latency_ms": &m.p99}
	for column, value := range columns {
		i := slices.Index(rows[0], column)
		if i < 0 {
			return m, fmt.Errorf("redis-benchmark reports no %s (it does from 7.0 on): %q", column, out)
		}
		if *value, err = strconv.ParseFloat(rows[1][i], 64); err != nil {
			return m, fmt.Errorf("%s of redis-benchmark: %w", column, err)
		}
	}
	return m, nil
}
