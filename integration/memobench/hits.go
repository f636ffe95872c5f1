package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// hitName has a value.
const hitName = "bench:hit"

// A hitLoad is so many clients with so many requests in flight each.
type hitLoad struct{ clients, pipeline int }

// A hitRun is what one run of a load gave, per request.
type hitRun struct {
	perSecond    float64
	proxy, redis float64 // µs on a core
	calls        float64 // in Redis
}

// hits compares KS.MEMO of a name that has a value with GET, both through the first proxy. They take turns, and
// ratios are taken within a round. One client compares like with like: a command comes to Redis alone. Of many, and
// most of all of those in a pipeline, GETs come to Redis many at a time, which spares it system calls; a KS command is
// answered before the next one of its client is looked at.
func (b *bench) hits(ctx context.Context, out io.Writer) error {
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return fmt.Errorf("%w (package redis-tools)", err)
	}
	if err := b.admin.Set(ctx, hitName, "xxx", 0).Err(); err != nil {
		return err
	}
	fmt.Fprintln(out, "KS.MEMO that hits, beside GET\tin flight\tGET/s\thits/s\tof GET\tproxy CPU µs GET\thit\tRedis CPU µs GET\thit\tof GET\tcalls in Redis per hit\t")
	for _, l := range []hitLoad{{1, 1}, {50, 1}, {50, 16}} {
		if err := b.hitRow(ctx, out, l); err != nil {
			return fmt.Errorf("hits, %+v: %w", l, err)
		}
	}
	return nil
}

func (b *bench) hitRow(ctx context.Context, out io.Writer, l hitLoad) error {
	var gets, memos []hitRun
	for round := range b.rounds + 1 {
		get, err := b.hitRun(ctx, l, "GET")
		if err != nil {
			return err
		}
		memo, err := b.hitRun(ctx, l, "KS.MEMO")
		if err != nil {
			return err
		}
		if round > 0 { // the first warms up
			gets, memos = append(gets, get), append(memos, memo)
		}
	}
	median := func(runs []hitRun, figure func(hitRun) float64) float64 { return figures.Median(each(runs, figure)) }
	ratio := func(figure func(hitRun) float64) float64 {
		return figures.Median(figures.Ratios(each(memos, figure), each(gets, figure)))
	}
	_, err := fmt.Fprintf(out, "%d clients\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", l.clients, l.pipeline,
		median(gets, perSecond), median(memos, perSecond), ratio(perSecond), median(gets, proxyCPU), median(memos, proxyCPU),
		median(gets, redisCPU), median(memos, redisCPU), ratio(redisCPU), median(memos, callsEach))
	return err
}

func perSecond(r hitRun) float64 { return r.perSecond }
func proxyCPU(r hitRun) float64  { return r.proxy }
func redisCPU(r hitRun) float64  { return r.redis }
func callsEach(r hitRun) float64 { return r.calls }

func each(runs []hitRun, figure func(hitRun) float64) []float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, figure(r))
	}
	return all
}

// hitRun has redis-benchmark send the load: it is one thread of C and takes less of the cores than a loader in Go.
func (b *bench) hitRun(ctx context.Context, l hitLoad, command string) (r hitRun, err error) {
	n := b.requests
	if l.clients == 1 {
		n /= 5
	}
	before, err := b.usage(ctx)
	if err != nil {
		return r, err
	}
	report, err := exec.CommandContext(ctx, "redis-benchmark", "-p", strconv.Itoa(b.proxies[0].Port), "--csv",
		"-n", strconv.Itoa(n), "-c", strconv.Itoa(l.clients), "-P", strconv.Itoa(l.pipeline), command, hitName).Output()
	if err != nil {
		return r, fmt.Errorf("redis-benchmark: %w", err)
	}
	after, err := b.usage(ctx)
	if err != nil {
		return r, err
	}
	r.perSecond, err = rateOf(string(report))
	perRequest := func(sum float64) float64 { return sum / float64(n) }
	r.proxy = perRequest(float64(after.proxies-before.proxies) / 1000)
	r.redis = perRequest(float64(after.redis-before.redis) / 1000)
	r.calls = perRequest(float64(after.calls.Since(before.calls).Sum()))
	return r, err
}

// rateOf reads the requests per second from what redis-benchmark --csv prints.
func rateOf(report string) (float64, error) {
	rows, err := csv.NewReader(strings.NewReader(report)).ReadAll()
	if err == nil && len(rows) != 2 {
		err = errors.New("not two lines")
	}
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark prints %q: %w", report, err)
	}
	column := slices.Index(rows[0], "rps")
	if column < 0 {
		return 0, fmt.Errorf("redis-benchmark reports no rps: %q", report)
	}
	return strconv.ParseFloat(rows[1][column], 64)
}
