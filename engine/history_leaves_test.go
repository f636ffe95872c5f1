package engine

import (
	"fmt"
	"slices"
)

// hangUp ends a call; its leave comes later.
func (h *history) hangUp(c *played) {
	h.note("hang up %v", c)
	h.forget(c)
	h.over = append(h.over, &departing{played: c, keep: c.own})
}

// endSession: the connection that holds is closed; its release comes later.
func (h *history) endSession() {
	if h.holder == nil || !h.holder.session {
		return
	}
	for _, d := range h.over {
		if d.played == h.holder {
			return
		}
	}
	h.note("end session of %v", h.holder)
	h.over = append(h.over, &departing{played: h.holder})
}

// leave tells Redis of up to n that are over, of one proxy.
func (h *history) leave(o op, n int) error {
	var who []*departing
	if len(h.over) == 0 {
		return nil
	}
	first := h.over[o.pick(0, len(h.over))]
	for _, d := range h.over {
		met := slices.ContainsFunc(who, func(w *departing) bool { return w.token == d.token })
		if d.instance == first.instance && !d.proxy.frozen && !met && (d == first || len(who) < n) {
			who = append(who, d)
		}
	}
	if who == nil {
		return nil
	}
	if o.pick(2, 5) > 0 { // else it will be sent again
		h.over = slices.DeleteFunc(h.over, func(d *departing) bool { return slices.Contains(who, d) })
	}
	return h.leaves(first.instance, who, true)
}

// leaveForGood ends the place of a call that was kept for the next with its token.
func (h *history) leaveForGood(o op) error {
	if len(h.kept) == 0 {
		return nil
	}
	c := h.kept[o.pick(1, len(h.kept))]
	if c.proxy.frozen || c.proxy.instance != c.instance {
		return nil
	}
	return h.leaves(c.instance, []*departing{{played: c, over: true}}, true)
}

// leaveUnclaimed is what a proxy does that is rung for a call which is over.
func (h *history) leaveUnclaimed(o op) error {
	if len(h.over) == 0 {
		return nil
	}
	d := h.over[o.pick(0, len(h.over))]
	if d.proxy.frozen {
		return nil
	}
	return h.leaves(d.instance, []*departing{{played: d.played}}, false)
}

// lookAfterClaim is what a proxy does that handed the lock to another.
func (h *history) lookAfterClaim(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	return h.leaves(p.instance, nil, true)
}

// leaves runs the leave script for some attempts of one instance; none: to look whether a hand-off was
// claimed. all: also gives up what was claimed.
func (h *history) leaves(instance string, who []*departing, all bool) error {
	before, args := h.now, []string{instance, "all"}
	rest := []any{asFlag(all)}
	m := move{by: instance, gone: map[string]bool{}}
	left := 0
	for _, d := range who {
		args = append(args, fmt.Sprintf("%s:%d:%v:%v", d.token, d.seq, d.keep, d.over))
		rest = append(rest, d.token, d.seq, departure{keep: d.keep, over: d.over}.placeFlag())
		if d.keep {
			h.kept = append(h.kept, d.played)
			h.kept = h.kept[max(0, len(h.kept)-4):]
		}
		place, waits := before.places[d.token]
		p, here := parseSpot(place), before.owner == d.token
		switch {
		case waits:
			if p.id == d.place() && p.kept == d.over {
				m.gone[d.token] = d.keep
				left++
			}
		case d.over:
		case before.tok == d.token && before.st != "f" && before.att == d.place():
			m.excused = before.lapsed()
			ends := here && (before.st == "p" || all)
			m.ends = m.ends || ends
			if ends || m.excused {
				left++
				if d.keep {
					m.back = d.token
				}
			}
		case here && before.tok != d.token && all:
			m.ends = true
			left++
		}
	}
	if before.lapsed() && before.owner == "" && !m.excused {
		m.ends = true
	}
	released := m.ends
	reply, err := h.st.run(leaveScript, h.st.keys.ofLine(), instance, rest...)
	if err != nil {
		return fmt.Errorf("leave %v: %w", args, err)
	}
	h.ran(reply, instance)
	h.note("leave %v all=%v: %v   %v", args, all, reply, h.now)
	if got := reply.([]any)[0]; got != int64(left) {
		return fmt.Errorf("%v left, not %d; there was %v", got, left, before)
	}
	if err := h.judge(before, m, left == 0 && !released); err != nil {
		return err
	}
	if m.back != "" {
		h.came[m.back] = 0 // had it, and is at the front for the next call
	}
	for _, d := range who {
		if h.holder != nil && h.holder.token == d.token && (h.holder == d.played || h.unrecorded) {
			h.ended(d.token, released)
		}
		if _, kept := h.now.places[d.token]; kept {
			h.counts["kept"]++
		}
	}
	return nil
}
