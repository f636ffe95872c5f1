package chaos

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// slack is how much later than its lease says Redis may let a key go: its clock stands still during a script.
const slack = int64(100 * time.Millisecond)

// step is an operation as the model sees it.
type step struct {
	op
	end  int64 // of lock and extend: the hold can have ended by itself from here on
	last int64 // of lock and extend: it must have
	// until bounds the moment the operation took effect: its return, for an unknown one what proves that it did.
	until int64
}

// state is a lock in the model. Time is not in it: that a lease ran out shows when somebody acts whose reply
// came after its end could be.
type state struct {
	owner     string
	end, last int64
	fence     int64
	fenceOf   string
	value     int64 // of the register that guarded writes change
}

// model is one lock whose every grant is exclusive until it is unlocked or its lease can have run out, whose
// fences rise, and whose register only the owner writes.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, _ any) (bool, any) {
		next, ok := s.(state).after(input.(step))
		return ok, next
	},
	DescribeOperation: func(input, _ any) string { return input.(step).String() },
	DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
}

func (s state) after(do step) (state, bool) {
	if do.kind == lock {
		return s.afterLock(do)
	}
	mine := s.owner == do.token
	switch do.outcome {
	case no: // it is not the owner, or its lease can have run out
		if mine && do.until < s.end {
			return s, false
		}
		if mine {
			s.owner = ""
		}
		return s, true
	case yes:
		if !mine || do.call > s.last || do.kind == write && do.old != s.value {
			return s, false
		}
	case unknown:
		if !mine {
			return s, true
		}
	}
	switch do.kind {
	case unlock:
		s.owner = ""
	case write:
		s.value = do.fence
	case extend:
		if do.outcome == unknown {
			do.end = min(s.end, do.end)
		}
		s.end, s.last = do.end, do.last
	}
	return s, true
}

func (s state) afterLock(do step) (state, bool) {
	if s.owner != "" && s.owner != do.token && do.until < s.end {
		return s, do.outcome == unknown
	}
	if do.outcome == yes {
		again := do.fence == s.fence && s.fenceOf == do.token && s.owner == do.token
		if do.fence <= s.fence && !again {
			return s, false
		}
		s.fence, s.fenceOf = do.fence, do.token
	}
	s.owner, s.end, s.last = do.token, do.end, do.last
	return s, true
}

// steps are the operations of one lock for the model. Those that say nothing are left out: a lock that was not
// granted (somebody may have had it for a moment), and one of which nothing was ever heard again.
func (h *history) steps(ops []op) []step {
	tokens := map[string][]op{}
	for _, o := range ops {
		tokens[o.token] = append(tokens[o.token], o)
	}
	var all []step
	for _, ops := range tokens {
		all = append(all, h.stepsOfToken(ops)...)
	}
	slices.SortFunc(all, func(a, b step) int { return cmp.Compare(a.call, b.call) })
	return all
}

func (h *history) stepsOfToken(ops []op) []step {
	about := learn(ops)
	unheard := map[kind]int{}
	var all []step
	for _, o := range inOrder(ops) {
		s := step{op: o, until: o.ret, last: open}
		if o.outcome == unknown && o.ret == open {
			// Of many sent again and again, the first says all that can be said: it may be any of them. An
			// unlock that is known to have worked says that none of them did.
			unheard[o.kind]++
			if o.kind == lock && unheard[lock] > 1 || o.kind == unlock && about.unlocks+unheard[unlock] > max(1, len(about.fences)) {
				continue
			}
		}
		switch {
		case o.kind == lock && (o.outcome == no || o.outcome == unknown && (len(about.fences) > 0 || about.heard == open)):
			continue
		case o.kind == lock && o.outcome == unknown:
			s.until = about.heard
		case o.kind == lock: // the fence narrows down when it was granted
			s.call = max(s.call, min(h.granted(o.fence), o.ret))
		case o.outcome == unknown && o.call > about.over:
			continue
		case o.outcome == unknown:
			s.until = min(s.until, about.over)
		}
		if s.end = h.leaseEnd(o, ops); about.session {
			s.end = about.proven
		} else if about.sure && (o.kind == lock || o.kind == extend) {
			s.last = o.ret + int64(o.lease) + slack
		}
		all = append(all, s)
	}
	return all
}

func inOrder(ops []op) []op {
	return slices.SortedFunc(slices.Values(ops), func(a, b op) int { return cmp.Compare(a.call, b.call) })
}

// lore is what the operations of a token say together.
type lore struct {
	fences  map[int64]bool
	session bool
	sure    bool  // all that set the lease was answered
	proven  int64 // it held until here at least
	heard   int64 // it had been granted by then at the latest
	unlocks int   // that are known to have worked
	over    int64 // it held no more from here on, so that what comes later does nothing
}

func learn(ops []op) lore {
	about := lore{fences: map[int64]bool{}, sure: true, heard: open, over: open}
	for _, o := range ops {
		if o.kind == lock {
			about.session = about.session || o.lease == 0
			if o.outcome == yes {
				about.fences[o.fence] = true
			}
		}
		about.sure = about.sure && (o.kind != lock && o.kind != extend || o.outcome != unknown)
		if o.outcome == yes {
			about.proven = max(about.proven, o.call)
			about.heard = min(about.heard, o.ret)
		}
		if o.kind == unlock && o.outcome == yes {
			about.unlocks++
		}
		if o.kind == unlock && o.outcome == yes || o.kind != lock && o.outcome == no {
			about.over = min(about.over, o.ret)
		}
	}
	if len(about.fences) > 1 { // it was granted once more, perhaps after that
		about.over = open
	}
	return about
}

// linearizable asks porcupine about each lock. Of an illegal history it leaves a picture in a file.
func (h *history) linearizable(timeout time.Duration) (porcupine.CheckResult, []string) {
	result := porcupine.Ok
	var wrong []string
	for name, ops := range h.byName() {
		var history []porcupine.Operation
		for _, s := range h.steps(ops) {
			history = append(history, porcupine.Operation{ClientId: s.client, Input: s, Call: s.call, Return: min(s.until, math.MaxInt64-1)})
		}
		one, about := porcupine.CheckOperationsVerbose(model, history, timeout)
		switch {
		case one == porcupine.Illegal:
			result = one
			wrong = append(wrong, fmt.Sprintf("%s: not linearizable, see %s", name, picture(about)))
		case one == porcupine.Unknown && result == porcupine.Ok:
			result = one
		}
	}
	return result, wrong
}

func picture(about porcupine.LinearizationInfo) string {
	f, err := os.CreateTemp(*files, "chaos-*.html")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if err := porcupine.Visualize(model, about, f); err != nil {
		return err.Error()
	}
	return f.Name()
}
