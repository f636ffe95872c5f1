package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// A cell is a load on a path.
type cell struct {
	path string
	load load
}

// results are all measurements: of each cell one per round.
type results struct {
	paths []string
	loads []load
	runs  map[cell][]measurement
}

// String is the table: medians over the rounds, and under each load the ratios
// that tell what the proxy costs.
func (r *results) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "clients\tpipeline\tpath\trequests/s\tp50 ms\tp99 ms\trelay CPU µs\tRedis CPU µs\tthroughput\tp50\trelay CPU\t")
	fmt.Fprintln(w, "\t\t\t\t\t\tper request\tper request\tvs direct\tvs direct\tvs haproxy\t")
	for _, l := range r.loads {
		for _, path := range r.paths {
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", l.clients, l.pipeline, path, r.row(cell{path, l}))
		}
		fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t\t\t")
	}
	w.Flush()
	return b.String()
}

// row is what the table says of a cell.
func (r *results) row(c cell) string {
	relay := "-"
	if c.path != "direct" {
		relay = fmt.Sprintf("%.2f", figures.Median(r.of(c, relayCPU)))
	}
	return strings.Join([]string{
		fmt.Sprintf("%.0f", figures.Median(r.of(c, perSecond))),
		fmt.Sprintf("%.3f", figures.Median(r.of(c, p50))),
		fmt.Sprintf("%.3f", figures.Median(r.of(c, p99))),
		relay,
		fmt.Sprintf("%.2f", figures.Median(r.of(c, redisCPU))),
		r.ratio(c, "direct", perSecond),
		r.ratio(c, "direct", p50),
		r.ratio(c, "haproxy", relayCPU),
		"",
	}, "\t")
}

func perSecond(m measurement) float64 { return m.perSecond }
func p50(m measurement) float64       { return m.p50 }
func p99(m measurement) float64       { return m.p99 }
func relayCPU(m measurement) float64  { return m.relayCPU }
func redisCPU(m measurement) float64  { return m.redisCPU }

// of is one figure of a cell, round by round.
func (r *results) of(c cell, figure func(measurement) float64) []float64 {
	var all []float64
	for _, m := range r.runs[c] {
		all = append(all, figure(m))
	}
	return all
}

// ratio compares a cell with the same load on another path, within each round,
// and gives the median with the smallest and the largest ratio.
func (r *results) ratio(c cell, path string, figure func(measurement) float64) string {
	others := r.of(cell{path, c.load}, figure)
	if path == c.path || c.path == "direct" || len(others) == 0 {
		return "-"
	}
	ratios := figures.Ratios(r.of(c, figure), others)
	if len(ratios) == 1 {
		return fmt.Sprintf("%.2f", ratios[0])
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", figures.Median(ratios), slices.Min(ratios), slices.Max(ratios))
}
