// Package figures is how the benchmarks sum up what they have measured.
package figures

import (
	"slices"
	"time"
)

// Median is the middle of all, the mean of the two in the middle if their number
// is even, and 0 of none.
func Median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// Ratios divides a figure by another one of the same round, round by round.
func Ratios(figure, by []float64) []float64 {
	ratios := make([]float64, len(figure))
	for round := range figure {
		ratios[round] = figure[round] / by[round]
	}
	return ratios
}

// Percentile is the time that p (below 100) of 100 times don't exceed, 0 if there
// are none; times are sorted.
func Percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[len(times)*p/100]
}

// Milliseconds is d in ms with its fraction.
func Milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
