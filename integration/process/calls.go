package process

import (
	"fmt"
	"slices"
	"strings"
)

// Calls is how often Redis has run each command, by name in lower case, within scripts, too.
type Calls map[string]int64

// ParseCalls reads a reply of INFO commandstats.
func ParseCalls(stats string) Calls {
	calls := Calls{}
	for line := range strings.Lines(stats) {
		name, rest, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		var n int64
		if _, err := fmt.Sscanf(rest, "%d,", &n); found && err == nil {
			calls[name] = n
		}
	}
	return calls
}

// Since is what was called after before was taken.
func (c Calls) Since(before Calls) Calls {
	news := Calls{}
	for name, n := range c {
		if n -= before[name]; n > 0 {
			news[name] = n
		}
	}
	return news
}

// Sum is the number of all calls.
func (c Calls) Sum() (sum int64) {
	for _, n := range c {
		sum += n
	}
	return sum
}

// Each lists the calls of each command divided by n, those that come at least every other time.
func (c Calls) Each(n int) string {
	var list []string
	for name, calls := range c {
		if each := float64(calls) / float64(n); each >= 0.5 {
			list = append(list, fmt.Sprintf("%s %.0f", name, each))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
