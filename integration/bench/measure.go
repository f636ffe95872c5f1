package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A load is one kind of load: so many clients with so many requests in flight each.
type load struct{ clients, pipeline int }

// requests is how many requests take about two seconds.
func (l load) requests(scale float64) int {
	n := 200_000.0
	if l.clients == 1 {
		n = 40_000
	}
	if l.pipeline > 1 {
		n *= min(float64(l.pipeline), 8)
	}
	return int(n * scale)
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
	for round := range opts.rounds {
		for _, l := range r.loads {
			for _, path := range s.paths {
				m, err := s.measure(ctx, path, l, opts.scale)
				if err != nil {
					return nil, fmt.Errorf("%s, %+v: %w", path, l, err)
				}
				key := cell{path, l}
				r.runs[key] = append(r.runs[key], m)
			}
		}
		fmt.Printf("round %d of %d is done\n", round+1, opts.rounds)
	}
	return r, nil
}

// measure runs a load on a path. Throughput and CPU time are those between 10 %
// and 90 % of the requests, so that setting up and tearing down connections is
// in neither; the percentiles are redis-benchmark's own, of the whole run.
func (s *servers) measure(ctx context.Context, path string, l load, scale float64) (measurement, error) {
	n := l.requests(scale)
	before, err := s.sample(ctx, path)
	if err != nil {
		return measurement{}, err
	}
	var out, complaints bytes.Buffer
	client := exec.CommandContext(ctx, "redis-benchmark", "-p", strconv.Itoa(s.port(path)), "--csv", "-t", "get",
		"-n", strconv.Itoa(n), "-c", strconv.Itoa(l.clients), "-P", strconv.Itoa(l.pipeline))
	client.Stdout, client.Stderr = &out, &complaints
	if err := client.Start(); err != nil {
		return measurement{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Wait() }()
	from, to, err := s.window(ctx, path, before.requests, int64(n), ended)
	if err != nil {
		return measurement{}, fmt.Errorf("%w: %s%s", err, out.String(), complaints.String())
	}
	m := from.until(to)
	m.p50, m.p99, err = percentiles(out.String())
	return m, err
}

// window samples at 10 % and at 90 % of n requests and waits for the client to
// end. It asks every 20 ms, which costs Redis a few tenths of a percent.
func (s *servers) window(ctx context.Context, path string, base, n int64, ended <-chan error) (from, to sample, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && to.requests == 0 {
				err = fmt.Errorf("%d requests are over before they could be sampled; use a larger -scale", n)
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
		switch done := now.requests - base; {
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
		if now.relay, err = cpuTime(relay.cmd.Process.Pid); err != nil {
			return now, err
		}
	}
	now.redis, err = cpuTime(s.redis.cmd.Process.Pid)
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

// percentiles finds p50 and p99 in the output of redis-benchmark --csv.
func percentiles(out string) (p50, p99 float64, err error) {
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		return 0, 0, fmt.Errorf("output of redis-benchmark: %w", err)
	}
	if len(rows) != 2 {
		return 0, 0, fmt.Errorf("output of redis-benchmark: %q", out)
	}
	for i, column := range rows[0] {
		switch column {
		case "p50_latency_ms":
			p50, err = strconv.ParseFloat(rows[1][i], 64)
		case "p99_latency_ms":
			p99, err = strconv.ParseFloat(rows[1][i], 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return p50, p99, nil
}
