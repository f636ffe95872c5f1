package engine

import "fmt"

// staleFor is for how long, in ms, some values are served after their TTL has ended.
const staleFor = 15_000

// staleCopy is what a history knows of the value that is served when its TTL has ended.
type staleCopy struct {
	value       string
	ends, until int64 // ms: of the TTL, and of the copy
	spoiled     bool  // the value was deleted, or replaced by a stranger's, before its TTL ended
	looked      bool  // its proxy has looked shortly before
}

// served: it may be, and must be.
func (c staleCopy) served(now int64) bool {
	return c.value != "" && now > c.ends && now <= c.until && !c.spoiled
}

// passEndOfTTL lets the proxy of a value look before its TTL ends, if that is in the next ms. Then nothing happens
// until it has ended: what does is told from its end by nobody.
func (h *history) passEndOfTTL(ms int64) int64 {
	c := &h.stale
	lead := copyLead.Milliseconds()
	if c.value == "" || c.looked || h.st.now+ms <= c.ends-lead {
		return ms
	}
	end := max(h.st.now+ms, c.ends+2)
	h.st.now, c.looked = c.ends-lead, true
	if h.valueUntil == c.ends { // Redis's own clock is behind
		h.st.b.do("PEXPIRE", h.st.keys.value, lead)
	}
	if err := h.st.lookAtCopy(); err != nil {
		h.st.t.Fatal(err)
	}
	h.counts["looks at copies"]++
	return end - h.st.now
}

// spoil: a stranger deletes or replaces the value.
func (h *history) spoil() {
	if h.st.now <= h.stale.ends {
		h.stale.spoiled = true
	}
}

// checkCopy looks whether a resolve has stored the copy, or dropped the last one.
func (h *history) checkCopy(text string, args []string) error {
	h.stale = staleCopy{}
	if stale := len(args) > 4; h.now.copied != stale {
		return fmt.Errorf("there is a stale copy: %v", h.now.copied)
	} else if !stale {
		return nil
	}
	h.counts["stale copies"]++
	h.stale = staleCopy{value: text, ends: h.st.now + answerTTL, until: h.st.now + answerTTL + staleFor}
	if !about(h.now.ttls[5], answerTTL+staleFor) {
		return fmt.Errorf("the stale copy is kept for %d ms", h.now.ttls[5])
	}
	return nil
}
