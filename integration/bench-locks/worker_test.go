package main

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A lock that lets two in at the same time ends the run with an error, also if
// only the count that both change shows it.
func TestBrokenExclusionIsNoticed(t *testing.T) {
	h := &hold{name: "l"}
	if err := h.enter(1); err != nil {
		t.Fatal(err)
	}
	if err := h.enter(2); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("a second worker inside: %v", err)
	}
	if err := h.leave(1); err == nil {
		t.Error("the first does not notice on leaving that another is inside")
	}

	h = &hold{name: "l", pairs: 1}
	if err := counted([]*worker{{hold: h, pairs: make([]time.Duration, 1)}}); err != nil {
		t.Error(err)
	}
	if err := counted([]*worker{{hold: h, pairs: make([]time.Duration, 1)}, {hold: h, pairs: make([]time.Duration, 1)}}); err == nil {
		t.Error("a lost count goes unnoticed")
	}
}

// A lock that everybody gets at once is found out by the workers themselves.
func TestWorkersFindOutALockThatLocksNothing(t *testing.T) {
	h := &hold{name: "l"}
	h.owner.Store(3) // a third is inside and stays there
	open := func(context.Context, string) (func(context.Context) error, error) {
		return func(context.Context) error { return nil }, nil
	}
	err := work(t.Context(), []*worker{{number: 1, hold: h}}, open, time.Now().Add(time.Minute), stuck)
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("work answers %v", err)
	}
}

// Workers that nobody lets on end the run.
func TestStuckWorkersAreNoticed(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	never := func(context.Context, string) (func(context.Context) error, error) {
		<-release
		return nil, context.Canceled
	}
	err := work(t.Context(), []*worker{{number: 1, hold: &hold{name: "l"}}}, never, time.Now().Add(100*time.Millisecond), 0)
	if err == nil || !strings.Contains(err.Error(), "still wait") {
		t.Errorf("work answers %v", err)
	}
}

// A good lock passes, and all that is measured is there.
func TestWorkersMeasure(t *testing.T) {
	free := make(chan struct{}, 1)
	free <- struct{}{}
	var unlocked atomic.Int64
	good := func(context.Context, string) (func(context.Context) error, error) {
		<-free
		return func(context.Context) error { unlocked.Add(1); free <- struct{}{}; return nil }, nil
	}
	h := &hold{name: "l"}
	workers := []*worker{{number: 1, hold: h}, {number: 2, hold: h}}
	if err := work(t.Context(), workers, good, time.Now().Add(20*time.Millisecond), stuck); err != nil {
		t.Fatal(err)
	}
	pairs, hands := 0, 0
	for _, w := range workers {
		pairs, hands = pairs+len(w.pairs), hands+len(w.hands)
	}
	if int64(pairs) != unlocked.Load() || hands != pairs-1 {
		t.Errorf("%d pairs and %d hand-offs of %d holds", pairs, hands, unlocked.Load())
	}
}
