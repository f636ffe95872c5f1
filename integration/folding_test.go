package integration

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// pattern is a regular expression and a word without which it matches nothing:
// looking for the word first spares most of the time with large replies.
type pattern struct {
	word []byte
	re   *regexp.Regexp
}

func patterns(word, expression string) []pattern {
	return []pattern{{[]byte(word), regexp.MustCompile(expression)}}
}

// replace replaces what the patterns match in b by token.
func replace(all []pattern, b []byte, token string) []byte {
	for _, p := range all {
		if bytes.Contains(b, p.word) {
			b = p.re.ReplaceAll(b, []byte(token))
		}
	}
	return b
}

// allowances applies the list and counts how often each entry was needed.
type allowances struct {
	help string // the reply of KS.HELP, which is folded literally

	mu   sync.Mutex
	hits map[string]int
}

func newAllowances(help string) *allowances {
	return &allowances{help: help, hits: map[string]int{}}
}

func (a *allowances) hit(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hits[name]++
}

// folding is the part of the list that holds for one scenario.
type folding struct {
	list []allowance
	help []byte
}

func (a *allowances) forScenario(sc scenario) folding {
	var f folding
	for _, entry := range allowanceList {
		if entry.when == nil || entry.when(sc) {
			f.list = append(f.list, entry)
		}
	}
	if sc.hasKS() {
		f.help = []byte(a.help)
	}
	return f
}

func (f folding) direct(b []byte) []byte {
	for _, entry := range f.list {
		b = replace(entry.matches, b, entry.token)
	}
	return b
}

func (f folding) proxied(b []byte) []byte {
	if len(f.help) > 0 {
		b = bytes.ReplaceAll(b, f.help, []byte("<KS>"))
	}
	for _, entry := range f.list {
		b = replace(entry.matches, b, entry.token)
		b = replace(entry.ours, b, entry.token)
	}
	return b
}

// ends reports whether the folded form of b may be want, by a look at the end
// only: folding megabytes again and again while they arrive would take longer
// than their way here.
func (f folding) ends(b, want []byte) bool {
	const compare = 16
	look := 8<<10 + compare*len(f.help) // a reply of KS.HELP becomes a few bytes
	if len(b) <= look {
		return true
	}
	return bytes.HasSuffix(f.proxied(b[len(b)-look:]), want[max(0, len(want)-compare):])
}

// count notes which entries were needed to make direct and proxied equal.
func (a *allowances) count(direct, proxied []byte, f folding) {
	if bytes.Equal(direct, proxied) {
		return
	}
	for i, entry := range f.list {
		without := folding{slices.Delete(slices.Clone(f.list), i, i+1), f.help}
		if !bytes.Equal(without.direct(direct), without.proxied(proxied)) {
			a.hit(entry.name)
		}
	}
}

// String lists what was allowed, and how often.
func (a *allowances) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.hits)) {
		fmt.Fprintf(&b, "\n  %7d  %s", a.hits[name], name)
	}
	return b.String()
}
