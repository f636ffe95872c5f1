package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const second = int64(time.Second)

// story is a history told in seconds. Its fences say nothing of the time.
func story(ops ...op) *history {
	h := newHistory()
	for _, o := range ops {
		o.name = "x"
		o.call *= second
		if o.ret == 0 {
			o.ret = open
		}
		if o.ret != open {
			o.ret *= second
		}
		h.ops = append(h.ops, o)
	}
	return h
}

func TestTheCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const lease = 10 * time.Second
	for what, c := range map[string]struct {
		h      *history
		left   int64
		wrong  string // of the verdict; empty: nothing
		linear porcupine.CheckResult
	}{
		"one after the other": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{token: "b", call: 1, ret: 7, lease: lease, outcome: yes, fence: 6},
			op{kind: write, token: "a", call: 3, ret: 4, outcome: yes, fence: 5},
			op{kind: unlock, token: "a", call: 5, ret: 6, outcome: yes},
			op{kind: write, token: "a", call: 7, ret: 8, outcome: no, fence: 5},
			op{kind: write, token: "b", call: 7, ret: 8, outcome: yes, fence: 6, old: 5},
			op{kind: unlock, token: "b", call: 9, ret: 10, outcome: yes},
		), left: 6, linear: porcupine.Ok},
		"both hold": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{token: "b", call: 3, ret: 4, lease: lease, outcome: yes, fence: 6},
		), wrong: "x: b (fence 6) was granted at 4s, a (fence 5) holds", linear: porcupine.Illegal},
		"both hold, as an unlock proves": {h: story(
			op{token: "a", call: 1, ret: 2, outcome: yes, fence: 5},
			op{token: "b", call: 3, ret: 4, outcome: yes, fence: 6},
			op{kind: unlock, token: "b", call: 5, ret: 6, outcome: yes},
			op{kind: unlock, token: "a", call: 7, ret: 8, outcome: yes},
		), wrong: "x: b (fence 6) was granted at 4s, a (fence 5) holds", linear: porcupine.Illegal},
		"a lease that ran out": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{token: "b", call: 3, ret: 12, lease: lease, outcome: yes, fence: 6},
			op{kind: unlock, token: "a", call: 13, ret: 14, outcome: no},
		), linear: porcupine.Ok},
		"a lease that was cut short": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: unlock, token: "a", call: 3, ret: 4, outcome: no},
		), linear: porcupine.Illegal},
		"a lease that does not run out": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: unlock, token: "a", call: 13, ret: 14, outcome: yes},
		), linear: porcupine.Illegal},
		"an extended lease": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: extend, token: "a", call: 9, ret: 10, lease: lease, outcome: yes},
			op{kind: unlock, token: "a", call: 15, ret: 16, outcome: yes},
			op{token: "b", call: 3, ret: 16, lease: lease, outcome: yes, fence: 6},
		), linear: porcupine.Ok},
		"a newcomer within an extended lease": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: extend, token: "a", call: 9, ret: 10, lease: lease, outcome: yes},
			op{token: "b", call: 3, ret: 16, lease: 2 * lease, outcome: yes, fence: 6},
		), wrong: "x: b (fence 6) was granted at 16s", linear: porcupine.Illegal},
		"a lease that may have been shortened": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: extend, token: "a", call: 3, lease: time.Second},
			op{token: "b", call: 3, ret: 5, lease: lease, outcome: yes, fence: 6},
		), linear: porcupine.Ok},
		"an unlock whose reply was lost": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: unlock, token: "a", call: 3},
			op{token: "b", call: 4, ret: 5, lease: lease, outcome: yes, fence: 6},
			op{kind: unlock, token: "a", call: 6, ret: 7, outcome: no},
		), linear: porcupine.Ok},
		"a lock whose reply was lost": {h: story(
			op{token: "a", call: 1, lease: lease},
			op{kind: unlock, token: "a", call: 3, ret: 4, outcome: yes},
			op{token: "b", call: 1, ret: 5, lease: lease, outcome: yes, fence: 6},
		), linear: porcupine.Ok},
		"asked for again": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{token: "a", call: 3, ret: 4, lease: lease, outcome: yes, fence: 5},
		), linear: porcupine.Ok},
		"a falling fence": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 6},
			op{kind: unlock, token: "a", call: 3, ret: 4, outcome: yes},
			op{token: "b", call: 5, ret: 6, lease: lease, outcome: yes, fence: 5},
		), wrong: "x: a fence falls", linear: porcupine.Illegal},
		"a falling fence of one who waited": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 6},
			op{kind: unlock, token: "a", call: 3, ret: 4, outcome: yes},
			op{token: "b", call: 1, ret: 6, lease: lease, outcome: yes, fence: 5},
		), wrong: "x: the fence 5 of b came after 6 of a", linear: porcupine.Illegal},
		"one fence for two": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: unlock, token: "a", call: 3, ret: 4, outcome: yes},
			op{token: "b", call: 1, ret: 6, lease: lease, outcome: yes, fence: 5},
		), wrong: "x: the fence 5 is a's and b's", linear: porcupine.Illegal},
		"a stale write": {h: story(
			op{token: "a", call: 1, ret: 2, lease: time.Second, outcome: yes, fence: 5},
			op{token: "b", call: 3, ret: 4, lease: lease, outcome: yes, fence: 6},
			op{kind: write, token: "b", call: 5, ret: 6, outcome: yes, fence: 6},
			op{kind: write, token: "a", call: 7, ret: 8, outcome: yes, fence: 5, old: 6},
		), left: 5, wrong: "x: a stale holder replaced 6", linear: porcupine.Illegal},
		"a write that was refused and is there": {h: story(
			op{token: "a", call: 1, ret: 2, lease: time.Second, outcome: yes, fence: 5},
			op{token: "b", call: 3, ret: 4, lease: lease, outcome: yes, fence: 6},
			op{kind: write, token: "b", call: 5, ret: 6, outcome: yes, fence: 6},
			op{kind: write, token: "a", call: 7, ret: 8, outcome: no, fence: 5},
		), left: 5, wrong: "x: 5 is left of guarded writes, the largest is 6", linear: porcupine.Ok},
		"a lost write": {h: story(
			op{token: "a", call: 1, ret: 2, lease: lease, outcome: yes, fence: 5},
			op{kind: write, token: "a", call: 3, ret: 4, outcome: yes, fence: 5},
			op{kind: write, token: "a", call: 5, ret: 6, outcome: yes, fence: 5, old: 4},
		), left: 5, linear: porcupine.Illegal},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			wrong := strings.Join(c.h.verdict(map[string]int64{"x": c.left}), "\n")
			if !strings.Contains(wrong, c.wrong) || c.wrong == "" && wrong != "" {
				t.Errorf("the verdict is %q, want %q", wrong, c.wrong)
			}
			if linear, _ := check(c.h); linear != c.linear {
				t.Errorf("porcupine says %v, want %v", linear, c.linear)
			}
		})
	}
}

// check is linearizable without pictures.
func check(h *history) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var history []porcupine.Operation
	for _, s := range h.steps(h.ops) {
		history = append(history, porcupine.Operation{ClientId: s.client, Input: s, Call: s.call, Return: s.until})
	}
	return porcupine.CheckOperationsVerbose(model, history, time.Minute)
}

// A hold that spans the loss of Redis's data is not trusted, but its fence counts.
func TestLostDataSuspendExclusionAlone(t *testing.T) {
	t.Parallel()
	both := []op{
		{token: "a", call: 1, ret: 2, lease: 10 * time.Second, outcome: yes, fence: 6},
		{token: "b", call: 4, ret: 5, lease: 10 * time.Second, outcome: yes, fence: 7},
	}
	h := story(both...)
	h.losses = []span{{3 * second, 4*second - 1}}
	if wrong := h.verdict(nil); len(wrong) > 0 {
		t.Errorf("a loss is blamed: %q", wrong)
	}
	both[1].fence = 5
	h = story(both...)
	h.losses = []span{{3 * second, 4*second - 1}}
	if wrong := h.verdict(nil); len(wrong) == 0 || !strings.Contains(wrong[0], "a fence falls") {
		t.Errorf("a fence that falls at a loss is not seen: %q", wrong)
	}
}
