package chaos

import (
	"cmp"
	"slices"
)

// hold is one grant and what its holder could rely on.
type hold struct {
	token string
	fence int64
	asked int64 // the call that was granted was sent
	begin int64 // the grant was known
	end   int64 // until here it is certain that nobody else was granted the lock; before begin: there is no such time
}

// holdsOf derives the holds of one lock from its operations, in the order in which they were known.
//
// A hold is trusted from its first reply until its lease can have run out first, or as long as a later reply
// (unlocked, extended, written: 1) proves that it went on; never beyond the moment its unlock was sent. A SESSION
// lock ends with a connection that anybody may have cut without the holder's knowledge, so there only proofs count.
func (h *history) holdsOf(ops []op) []hold {
	tokens := map[string][]op{}
	for _, o := range ops {
		tokens[o.token] = append(tokens[o.token], o)
	}
	var all []hold
	for _, ops := range tokens {
		all = append(all, h.holdsOfToken(ops)...)
	}
	slices.SortFunc(all, func(a, b hold) int { return cmp.Compare(a.begin, b.begin) })
	return all
}

func (h *history) holdsOfToken(ops []op) []hold {
	slices.SortFunc(ops, func(a, b op) int { return cmp.Compare(a.ret, b.ret) })
	over := int64(open) // its unlock was sent
	var all []hold
	for _, o := range ops {
		switch {
		case o.kind == unlock:
			over = min(over, o.call)
		case o.kind == lock && o.outcome == yes && !slices.ContainsFunc(all, func(h hold) bool { return h.fence == o.fence }):
			all = append(all, hold{token: o.token, fence: o.fence, asked: o.call, begin: o.ret})
		}
	}
	for i := range all {
		all[i].end = min(h.trusted(ops, all[i], len(all) == 1), over)
	}
	return all
}

// trusted is until when one may trust the hold, if it is not unlocked. Proofs of a token that was granted twice
// (asked for again after its lease) are not taken for one or the other.
func (h *history) trusted(ops []op, of hold, proofs bool) int64 {
	var lease, proven int64
	for _, o := range ops {
		switch {
		case o.kind == lock && o.outcome == yes && o.fence == of.fence:
			lease = max(lease, h.leaseEnd(o, ops))
			proven = max(proven, o.call)
		case o.kind == lock:
		case o.kind == extend && o.outcome == yes && proofs:
			lease = h.leaseEnd(o, ops)
			proven = max(proven, o.call)
		case o.kind == extend: // it may have been shortened
			lease = min(lease, h.leaseEnd(o, ops))
		case o.outcome == yes && proofs:
			proven = max(proven, o.call)
		}
	}
	return max(lease, proven)
}

// leaseEnd is when a lease that o began can have run out first: counted from before o was sent, or from the
// grant, where its fence tells that it came later. ops are all of o's token: where the lock was asked for several
// times, a call that was held up somewhere may put the first lease in place of one that was extended.
func (h *history) leaseEnd(o op, ops []op) int64 {
	if o.lease == 0 {
		return 0
	}
	begin, lease := o.call, o.lease
	if o.kind == lock && o.outcome == yes {
		begin = max(begin, min(h.granted(o.fence), o.ret))
	}
	if asks := locks(ops); o.kind == extend && len(asks) > 1 {
		for _, ask := range asks {
			lease = min(lease, ask.lease)
		}
	}
	return begin + int64(lease)
}

func locks(ops []op) []op {
	return slices.DeleteFunc(slices.Clone(ops), func(o op) bool { return o.kind != lock })
}

// spansLoss reports whether Redis's data were lost during the hold, or while it was asked for.
func (h *history) spansLoss(of hold) bool {
	return slices.ContainsFunc(h.losses, func(s span) bool { return of.asked <= s.to && max(of.begin, of.end) >= s.from })
}
