package engine

import (
	"fmt"
	"slices"
	"strings"
)

// observing is a KS.WAIT call.
type observing struct {
	instance string
	proxy    *proxyState
	was      holding // the hold it waits for, as it knows it
	hold     int     // and as it is
	due      int64   // ms: looks again by itself
	rung     bool
	unsure   bool  // the record of the hold was lost meanwhile
	ended    int64 // ms at which the hold ended
}

func (w *observing) String() string {
	return fmt.Sprintf("wait@%s for %s %s", w.instance, w.was.token, w.was.fence)
}

// longestRecheck is how long a KS.WAIT caller does not look unless a bell rings, in ms.
const longestRecheck = 6000

// wait is a new KS.WAIT call.
func (h *history) wait(o op) error {
	p := h.acting(o, 0)
	if p == nil || len(h.observers) >= 6 {
		return nil
	}
	w := &observing{instance: p.instance, proxy: p, hold: h.hold}
	now, err := h.observe(w)
	if err != nil || now.free {
		return err
	}
	w.was = now
	h.observers = append(h.observers, w)
	return nil
}

// observe looks at the hold that stands, and is told of its end.
func (h *history) observe(w *observing) (holding, error) {
	before := h.look()
	reply, err := h.st.run(observeScript, h.st.keys.ofLine(), w.instance)
	if err != nil {
		return holding{}, err
	}
	h.ran(reply, w.instance)
	h.note("observe %s: %v", w.instance, reply)
	f := fieldsOf(reply)
	now := holding{free: f.text() == "free"}
	if !now.free {
		now = holding{token: f.text(), fence: f.text(), left: f.number()}
	}
	want := holding{free: before.owner == "", token: before.owner, left: now.left}
	if before.owner != "" && before.tok == before.owner && before.st == "h" {
		want.fence = fmt.Sprint(before.n)
	}
	if f.err != nil || now != want || !now.free && !about(now.left, before.left) {
		return now, fmt.Errorf("observed %+v, not %+v for %d ms", now, want, before.left)
	}
	if !now.free {
		if !slices.Contains(strings.Fields(h.now.watching), w.instance) {
			return now, fmt.Errorf("%s waits for the end, and only %q will be told", w.instance, h.now.watching)
		}
		if ttl := h.now.ttls[2]; ttl == -1 || ttl < before.ttls[2]-1500 {
			return now, fmt.Errorf("the fence lived for %d ms, now %d", before.ttls[2], ttl)
		}
		if !slices.Contains(strings.Fields(before.watching), w.instance) {
			before.watching = strings.TrimSpace(before.watching + " " + w.instance)
		}
	}
	w.rung, w.due = false, h.st.now+nextAsk(answer{left: now.left}).Milliseconds()
	return now, h.judge(before, move{onlyReads: true}, false)
}

// bells lets those KS.WAIT callers look who were rung, or whose timer has come. Nobody is told of an end
// before it, and everybody is told who can be.
func (h *history) bells() error {
	for _, w := range slices.Clone(h.observers) {
		if w.proxy.frozen || !w.rung && h.st.now < w.due {
			continue
		}
		now, err := h.observe(w)
		if err != nil {
			return err
		}
		over := now.free || !w.was.same(now)
		vague := w.was.fence == "" && now.token == w.was.token // handed over again, or a stranger's
		switch {
		case over && w.hold == h.hold && !w.unsure:
			return fmt.Errorf("%v was told that it has ended, and it stands: %v", w, now)
		case !over && w.hold != h.hold && !vague:
			return fmt.Errorf("%v was told that it stands, and it has ended: %v", w, now)
		case over:
			h.counts["waits ended"]++
			h.observers = slices.DeleteFunc(h.observers, func(o *observing) bool { return o == w })
		default:
			w.was, w.hold = now, h.hold
		}
	}
	for _, w := range h.observers {
		if w.hold != h.hold && !w.proxy.frozen && h.st.now > w.ended+longestRecheck && h.st.now > w.due {
			return fmt.Errorf("%v has not been answered for %d ms", w, h.st.now-w.ended)
		}
	}
	return nil
}

// saw compares what Redis holds with what it held: if the owner changed, a hold has ended.
func (h *history) saw(after view) {
	if after.owner != h.now.owner {
		for _, w := range h.observers {
			if w.hold == h.hold {
				w.ended = h.st.now
			}
		}
		h.hold++
	}
	h.now = after
}

// ringObservers rings those of the instances that were just told of an end.
func (h *history) ringObservers() {
	for _, w := range h.observers {
		own := fmt.Sprintf("ring %s:%d", w.instance, ringObservers)
		if slices.Contains(h.told, own) || slices.Contains(h.told, "ended for "+w.instance) && !w.proxy.cut {
			w.rung = true
		}
	}
}

// judgeEnd looks whether KS.WAIT callers are told when their hold ends, and only then forgotten.
func (h *history) judgeEnd(before view, by string, ends bool) error {
	if !ends {
		if h.now.watching != before.watching {
			return fmt.Errorf("nothing has ended, and %q waits for it instead of %q", h.now.watching, before.watching)
		}
		return nil
	}
	if h.now.watching != "" {
		return fmt.Errorf("the hold has ended, and %q waits for it", h.now.watching)
	}
	for _, instance := range strings.Fields(before.watching) {
		news := "ended for " + instance
		if instance == by {
			news = fmt.Sprintf("ring %s:%d", by, ringObservers)
		}
		if !slices.Contains(h.told, news) {
			return fmt.Errorf("nobody was told %q, only %q; there was %v", news, h.told, before)
		}
	}
	return nil
}
