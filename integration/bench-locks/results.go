package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// A cell is a case with a contestant.
type cell struct{ name, contestant string }

// results are all measurements: of each cell one per round.
type results struct {
	options
	contestants []string
	runs        map[cell][]measurement
}

// baseline is whom the others are compared with.
const baseline = "redislock"

// A figure is a column of the table.
type figure struct {
	head   [2]string
	format string
	of     func(measurement) float64
	ratio  string // what the column with the ratios to the baseline is called; empty: there is none
}

var columns = []figure{
	{[2]string{"pairs/s", ""}, "%.0f", func(m measurement) float64 { return m.perSecond }, "pairs/s"},
	{[2]string{"pair ms", "p50"}, "%.3f", func(m measurement) float64 { return m.pair.p50 }, ""},
	{[2]string{"pair ms", "p99"}, "%.3f", func(m measurement) float64 { return m.pair.p99 }, ""},
	{[2]string{"wait ms", "p50"}, "%.3f", func(m measurement) float64 { return m.wait.p50 }, "wait p50"},
	{[2]string{"wait ms", "p99"}, "%.3f", func(m measurement) float64 { return m.wait.p99 }, "wait p99"},
	{[2]string{"hand-off ms", "p50"}, "%.3f", func(m measurement) float64 { return m.hand.p50 }, "hand-off p50"},
	{[2]string{"hand-off ms", "p99"}, "%.3f", func(m measurement) float64 { return m.hand.p99 }, ""},
	{[2]string{"hand-off", "to itself"}, "%.0f%%", func(m measurement) float64 { return m.again }, ""},
	{[2]string{"Redis CPU", "µs a pair"}, "%.1f", func(m measurement) float64 { return m.redis }, "Redis CPU"},
	{[2]string{"proxy CPU", "µs a pair"}, "%.1f", func(m measurement) float64 { return m.proxy }, ""},
	{[2]string{"client CPU", "µs a pair"}, "%.1f", func(m measurement) float64 { return m.client }, ""},
}

// says reports whether a figure means anything in a cell.
func (f figure) says(c cell) bool {
	switch f.head[0] {
	case "hand-off ms", "hand-off":
		return c.name == "contended"
	case "proxy CPU":
		return c.contestant == "ks" || c.contestant == throughHAProxy
	}
	return true
}

// String is the table: medians over the rounds, and the medians of the ratios to
// the baseline within each round.
func (r *results) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	first, second := []string{"", "", ""}, []string{"case", "workers", "contestant"}
	for _, f := range columns {
		first, second = append(first, f.head[0]), append(second, f.head[1])
	}
	for _, f := range columns {
		if f.ratio != "" {
			first, second = append(first, f.ratio), append(second, "/ "+baseline)
		}
	}
	fmt.Fprintln(w, strings.Join(first, "\t")+"\t")
	fmt.Fprintln(w, strings.Join(second, "\t")+"\t")
	for _, name := range r.cases {
		for _, contestant := range r.contestants {
			fmt.Fprintln(w, strings.Join(r.row(cell{name, contestant}), "\t")+"\t")
		}
		fmt.Fprintln(w, strings.Repeat("\t", len(second)))
	}
	w.Flush()
	return b.String()
}

func (r *results) row(c cell) []string {
	words := []string{c.name, fmt.Sprint(r.crewSize(c.name)), c.contestant}
	for _, f := range columns {
		word := "-"
		if f.says(c) {
			word = fmt.Sprintf(f.format, figures.Median(r.of(c, f)))
		}
		words = append(words, word)
	}
	base := cell{c.name, baseline}
	for _, f := range columns {
		switch {
		case f.ratio == "":
		case len(r.runs[base]) == 0 || !f.says(c):
			words = append(words, "-")
		default:
			words = append(words, fmt.Sprintf("%.2f", figures.Median(figures.Ratios(r.of(c, f), r.of(base, f)))))
		}
	}
	return words
}

// of is one figure of a cell, round by round.
func (r *results) of(c cell, f figure) []float64 {
	var all []float64
	for _, m := range r.runs[c] {
		all = append(all, f.of(m))
	}
	return all
}
