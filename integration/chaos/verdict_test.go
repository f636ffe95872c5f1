package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// verdict is what the checks say of a history, but for linearizability; empty if all is well. registers are the
// values that are left of each name's guarded writes.
func (h *history) verdict(registers map[string]int64) []string {
	wrong := slices.Clone(h.wrong)
	for name, ops := range h.byName() {
		holds := h.holdsOf(ops)
		wrong = append(wrong, h.overlaps(name, holds)...)
		wrong = append(wrong, fences(name, ops, holds)...)
		if len(h.losses) == 0 {
			wrong = append(wrong, writes(name, ops, registers[name])...)
		}
	}
	slices.Sort(wrong)
	return wrong
}

// overlaps are holds of different tokens that could be trusted at the same time.
func (h *history) overlaps(name string, holds []hold) []string {
	var wrong []string
	var latest hold
	for _, of := range holds {
		if of.end <= of.begin || h.spansLoss(of) {
			continue
		}
		if of.begin < latest.end && of.token != latest.token {
			wrong = append(wrong, fmt.Sprintf("%s: %s (fence %d) was granted at %v, %s (fence %d) holds from %v until %v", name,
				of.token, of.fence, time.Duration(of.begin), latest.token, latest.fence, time.Duration(latest.begin), time.Duration(latest.end)))
		}
		if of.end > latest.end {
			latest = of
		}
	}
	return wrong
}

// fences are grants whose fence is not larger than that of a grant known before they were asked for, or
// whose fence somebody else has, too, and holds whose fences are not in the order of the holds.
func fences(name string, ops []op, holds []hold) []string {
	var wrong []string
	owners := map[int64]string{}
	var asked, known []op
	for _, o := range ops {
		if o.kind != lock || o.outcome != yes {
			continue
		}
		if owner, taken := owners[o.fence]; taken && owner != o.token {
			wrong = append(wrong, fmt.Sprintf("%s: the fence %d is %s's and %s's", name, o.fence, owner, o.token))
		}
		owners[o.fence] = o.token
		asked, known = append(asked, o), append(known, o)
	}
	slices.SortFunc(asked, func(a, b op) int { return cmp.Compare(a.call, b.call) })
	slices.SortFunc(known, func(a, b op) int { return cmp.Compare(a.ret, b.ret) })
	var highest op
	for _, o := range asked {
		for len(known) > 0 && known[0].ret < o.call {
			if known[0].fence > highest.fence {
				highest = known[0]
			}
			known = known[1:]
		}
		if o.fence < highest.fence || o.fence == highest.fence && o.token != highest.token {
			wrong = append(wrong, fmt.Sprintf("%s: a fence falls: %v; before: %v", name, o, highest))
		}
	}
	var before hold
	for _, of := range holds {
		if of.end <= of.begin {
			continue
		}
		if of.fence <= before.fence {
			wrong = append(wrong, fmt.Sprintf("%s: the fence %d of %s came after %d of %s", name, of.fence, of.token, before.fence, before.token))
		}
		before = of
	}
	return wrong
}

// writes are guarded writes that replaced a later holder's, and a register that is not the largest that was written.
func writes(name string, ops []op, left int64) []string {
	var wrong []string
	var largest int64
	written := map[int64]bool{0: true}
	for _, o := range ops {
		if o.kind != write || o.outcome == no {
			continue
		}
		written[o.fence] = true
		if o.outcome != yes {
			continue
		}
		largest = max(largest, o.fence)
		if o.old > o.fence {
			wrong = append(wrong, fmt.Sprintf("%s: a stale holder replaced %d: %v", name, o.old, o))
		}
	}
	if left < largest || !written[left] {
		wrong = append(wrong, fmt.Sprintf("%s: %d is left of guarded writes, the largest is %d", name, left, largest))
	}
	return wrong
}
