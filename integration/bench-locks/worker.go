package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A hold is what a lock protects here. Whoever has the lock enters and leaves.
type hold struct {
	name  string // of the lock
	owner atomic.Int32

	// All of these are guarded by nothing but the lock under test.
	pairs   int
	endedAt time.Time // just before the unlock was sent
	endedBy int32
}

// enter fails if another worker is inside.
func (h *hold) enter(worker int32) error {
	if other := h.owner.Swap(worker); other != 0 {
		return fmt.Errorf("mutual exclusion is broken: workers %d and %d have %s at the same time", other, worker, h.name)
	}
	h.pairs++
	return nil
}

func (h *hold) leave(worker int32) error {
	if other := h.owner.Swap(0); other != worker {
		return fmt.Errorf("mutual exclusion is broken: workers %d and %d have %s at the same time", other, worker, h.name)
	}
	return nil
}

// A worker takes the lock of its hold again and again.
type worker struct {
	number int32 // from 1
	hold   *hold
	pairs  []time.Duration // from asking to having given back
	waits  []time.Duration // from asking to having
	hands  []time.Duration // from the moment before the last owner's unlock is sent to having
	again  int             // how many of hands are from itself
}

// stuck is how long after the deadline workers may still wait for a lock that all
// others only take once more: after that, nobody will give it to them.
const stuck = 30 * time.Second

// work runs all workers until the deadline and lets each finish what it is in, for
// as long as patience. If it fails because workers are stuck, their goroutines are left behind.
func work(ctx context.Context, workers []*worker, lock lockFunc, deadline time.Time, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() {
			for time.Now().Before(deadline) && ctx.Err() == nil {
				if err := w.once(ctx, lock); err != nil {
					cancel(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(time.Until(deadline) + patience):
		return fmt.Errorf("workers still wait for the lock %v after the end of the run", patience)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return counted(workers)
}

func (w *worker) once(ctx context.Context, lock lockFunc) error {
	asked := time.Now()
	unlock, err := lock(ctx, w.hold.name)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	has := time.Now()
	if err := w.hold.enter(w.number); err != nil {
		return err
	}
	if w.hold.endedBy != 0 {
		w.hands = append(w.hands, has.Sub(w.hold.endedAt))
		if w.hold.endedBy == w.number {
			w.again++
		}
	}
	w.hold.endedBy, w.hold.endedAt = w.number, time.Now()
	if err := w.hold.leave(w.number); err != nil {
		return err
	}
	if err := unlock(ctx); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	w.waits = append(w.waits, has.Sub(asked))
	w.pairs = append(w.pairs, time.Since(asked))
	return nil
}

// counted checks that no hold has lost a count, as it does when two change it at
// the same time.
func counted(workers []*worker) error {
	want := map[*hold]int{}
	for _, w := range workers {
		want[w.hold] += len(w.pairs)
	}
	for h, n := range want {
		if h.pairs != n {
			return fmt.Errorf("mutual exclusion is broken: %d pairs on %s, but its count is %d", n, h.name, h.pairs)
		}
	}
	return nil
}
