package integration

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestRandomStreams sends random streams of valid, odd and invalid input both
// ways and wants the same replies and the same ends.
func TestRandomStreams(t *testing.T) {
	seed := *diffSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	eachVariant(t, func(t *testing.T, v variant) {
		p := startPair(t, v)
		streamsUntil(t, p, seed, time.Now().Add(*diffDuration))
	})
}

// streamsUntil runs streams of increasing seeds; the first one runs in any case.
func streamsUntil(t *testing.T, p *pair, seed uint64, deadline time.Time) {
	t.Helper()
	const mostDifferences = 5
	streams, items, bytes, differences := 0, 0, 0, 0
	defer func() {
		t.Logf("%d streams (seeds from %d), %d requests, %d bytes: %d differences; allowed:%v",
			streams, seed, items, bytes, differences, p.allowed)
	}()
	for ; streams == 0 || time.Now().Before(deadline); streams++ {
		s := newStream(seed + uint64(streams))
		i, b := s.size()
		items, bytes = items+i, bytes+b
		m := p.runNamed(t, s)
		if m == nil {
			continue
		}
		differences++
		s, m = p.minimise(t, s, m)
		t.Errorf("%v\nminimised from -diff.seed=%d -diff.duration=0:\n%v", m, s.seed, s.scenario())
		if differences == mostDifferences {
			return
		}
	}
}

// runNamed names the seed if the run itself fails.
func (p *pair) runNamed(t *testing.T, s stream) *mismatch {
	t.Helper()
	done := false
	defer func() {
		if !done {
			t.Logf("in the stream of -diff.seed=%d -diff.duration=0:\n%v", s.seed, s.scenario())
		}
	}()
	m := p.run(t, s.scenario())
	done = true
	return m
}

// minimise leaves out turns, requests and cuts as long as a difference remains.
// It gives up after a while.
func (p *pair) minimise(t *testing.T, s stream, m *mismatch) (stream, *mismatch) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	patience := p.patience
	p.patience = time.Second
	defer func() { p.patience = patience }()
	for again := true; again; {
		again = false
		for _, smaller := range s.smaller() {
			if time.Now().After(deadline) {
				return s, m
			}
			if found := p.run(t, smaller.scenario()); found != nil {
				s, m, again = smaller, found, true
				break
			}
		}
	}
	return s, m
}

// smaller lists the streams that lack one thing.
func (s stream) smaller() []stream {
	var all []stream
	with := func(turns []turn) { all = append(all, stream{s.seed, turns}) }
	for i := range s.turns {
		with(slices.Delete(slices.Clone(s.turns), i, i+1))
	}
	change := func(i int, t turn) {
		turns := slices.Clone(s.turns)
		turns[i] = t
		with(turns)
	}
	for i, t := range s.turns {
		for j := range t.items {
			fewer := t
			fewer.items = slices.Delete(slices.Clone(t.items), j, j+1)
			if len(fewer.items) > 0 {
				change(i, fewer)
			}
		}
		if len(t.cuts) > 0 {
			uncut := t
			uncut.cuts = nil
			change(i, uncut)
		}
		if t.how != opSend {
			ordinary := t
			ordinary.how = opSend
			change(i, ordinary)
		}
	}
	return all
}
