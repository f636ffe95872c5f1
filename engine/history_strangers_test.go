package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/keysmith/recorded"
)

// meddle is what strangers and other libraries do, and what Redis forgets.
func (h *history) meddle(o op) error {
	k := h.st.keys
	before := h.now
	switch o.what {
	case "expire":
		h.expire()
	case "value gone":
		h.spoil()
		h.st.b.do("DEL", k.value)
	case "value set":
		h.spoil()
		h.valueUntil = 0
		h.st.b.do("SET", k.value, fmt.Sprintf("set%d", h.tick))
		h.st.b.do("PUBLISH", k.notif, fmt.Sprintf("set%d", h.tick))
	case "error gone":
		h.st.b.do("DEL", k.failure)
		h.rejected = rejection{}
	case "del queue":
		h.disturbed()
		h.halved = true
		h.st.b.do("DEL", k.queue)
	case "del places":
		h.disturbed()
		h.st.b.do("DEL", k.waiting)
	case "del line":
		h.disturbed()
		h.st.b.do("DEL", k.queue, k.waiting)
	case "stray":
		h.disturbed()
		h.st.b.do("LPUSH", k.queue, fmt.Sprintf("stray%d", h.tick))
	case "del fence":
		h.fencesBeginAnew()
		h.st.b.do("DEL", k.fence)
	case "flush":
		h.fencesBeginAnew()
		h.holder, h.unrecorded, h.rejected, h.stale = nil, false, rejection{}, staleCopy{}
		h.st.b.do("FLUSHALL")
	case "net ask", "net release", "net listens", "net forgets":
		h.disturbed()
		h.net.act(h, o)
	case "ml lock": // redis-memolock: its token is opaque, and it may come without a TTL
		h.disturbed()
		args := []any{"SET", k.lock, fmt.Sprintf("ml%d", h.tick), "NX"}
		if o.pick(1, 2) == 0 {
			args = append(args, "PX", 30_000)
		}
		h.st.b.do(args...)
	case "ml value":
		if len(h.now.owner) > 2 && h.now.owner[:2] == "ml" {
			h.valueUntil = 0
			h.spoil()
			h.st.b.do("SET", k.value, "theirs")
			h.st.b.do("PUBLISH", k.notif, "theirs")
			if o.pick(1, 2) == 0 { // the C# version
				h.st.b.do("DEL", k.lock)
			}
		}
	default:
		return fmt.Errorf("unknown step")
	}
	h.saw(h.look())
	if h.now.String() != before.String() {
		h.note("%s   %v", o.what, h.now)
	}
	return nil
}

// expire is the end of a lease, or of a claim window, or a stranger's DEL.
func (h *history) expire() {
	if h.now.owner == "" {
		return
	}
	h.note("expire %s", h.now.owner)
	h.counts["expired "+h.now.st]++
	h.st.b.do("DEL", h.st.keys.lock)
	by := parseSpot(h.now.att).instance
	for _, c := range h.calls { // who did not claim is passed over with all of his proxy, and who was handed it directly and not told has had it
		c.steady = c.steady && c.token != h.now.owner && (h.now.st != "p" || c.instance != by)
	}
	h.holder, h.unrecorded = nil, false
	h.saw(h.look())
}

// freeze stops a proxy, cuts it off, or restarts it: then what it had is forgotten.
func (h *history) freeze(o op) {
	p := h.proxies[o.pick(0, len(h.proxies))]
	if p.frozen || p.cut {
		return
	}
	switch o.pick(1, 5) {
	case 0:
		p.frozen = true
	case 1:
		p.cut = true
	case 2, 3:
		p.frozen, p.cut = true, true
	case 4:
		h.restart(p)
		return
	}
	if p.cut {
		h.st.dead(p.instance)
	}
	h.note("%s freezes: %v, is cut off: %v", p.instance, p.frozen, p.cut)
	h.counts[fmt.Sprintf("frozen=%v cut=%v", p.frozen, p.cut)]++
	h.proxyStopped(p)
}

func (h *history) proxyStopped(p *proxyState) {
	for _, c := range h.calls {
		if c.proxy == p {
			c.steady = false
		}
	}
}

// restart kills a proxy and starts it anew. A hold of its connections ends with its lease.
func (h *history) restart(p *proxyState) {
	h.counts["restarts"]++
	h.st.dead(p.instance)
	old := p.instance
	p.restarts++
	p.instance = fmt.Sprintf("%s%d", old[:1], p.restarts)
	p.seen = 0
	h.st.live(p.instance)
	h.note("%s dies, %s starts", old, p.instance)
	h.proxyDied(p, old)
}

// proxyDied forgets the calls of a proxy that had another instance.
func (h *history) proxyDied(p *proxyState, old string) {
	gone := func(c *played) bool { return c.instance == old }
	h.calls = slices.DeleteFunc(h.calls, gone)
	h.over = slices.DeleteFunc(h.over, func(d *departing) bool { return gone(d.played) })
	h.observers = slices.DeleteFunc(h.observers, func(w *observing) bool { return w.proxy == p })
}

func (h *history) thaw(p *proxyState) {
	if p.cut {
		h.st.live(p.instance)
	}
	if p.cut || p.frozen {
		h.note("%s thaws", p.instance)
	}
	h.inboxReturns(p)
	p.frozen, p.cut = false, false
}

// inboxReturns: all who wait look, if it was gone.
func (h *history) inboxReturns(p *proxyState) {
	for _, w := range h.observers {
		w.rung = w.rung || w.proxy == p && p.cut
	}
}

// disturbed: from now on nobody vouches for the order of arrival.
func (h *history) disturbed() { h.mixed = true }

// fencesBeginAnew at the clock, which has gone on, or beyond what the asking proxy has seen.
func (h *history) fencesBeginAnew() {
	h.disturbed()
	h.fence = min(h.fence, h.st.now*1000)
	h.st.now++
	h.unrecorded = h.holder != nil
	h.ends = nil
	clear(h.revoked) // of what is only handed over nobody knows that any more
	clear(h.burnt)
	for _, w := range h.observers {
		w.unsure = true
	}
	h.rejected.unsure = true
	for _, c := range h.calls {
		c.unsure = true
	}
}

// fromElsewhere: a proxy has seen a higher fence, of another name.
func (h *history) fromElsewhere(o op) {
	p := h.proxies[o.pick(0, len(h.proxies))]
	p.seen = max(p.seen, (h.st.now+int64(o.pick(1, 5000)))*1000)
}

// keySmith is a process of KeySmith .NET: it stands in our lines with 0 for a place, takes
// a lock that ran out without looking at the line, and hands over without telling our proxies.
type keySmith struct {
	st      *stage
	listens bool
	ids     []string
}

func (n *keySmith) act(h *history, o op) {
	switch o.what {
	case "net listens":
		if n.listens {
			n.stop()
		} else {
			n.st.live("KeySmith")
			n.listens = true
		}
	case "net forgets": // a cancelled task stays in line
		n.ids = nil
	case "net ask":
		if len(n.ids) < 3 {
			n.ids = append(n.ids, fmt.Sprintf("net%d", h.tick))
		}
		n.run(h, recorded.Take, n.ids[o.pick(0, len(n.ids))])
	case "net release":
		for _, id := range n.ids {
			if id == h.now.owner {
				n.run(h, recorded.Release, id)
				return
			}
		}
		if len(n.ids) > 0 && o.pick(1, 4) == 0 {
			n.run(h, recorded.Release, n.ids[0])
		}
	}
}

func (n *keySmith) stop() {
	if n.listens {
		n.st.dead("KeySmith")
		n.listens = false
	}
}

func (n *keySmith) run(h *history, script, id string) {
	k := n.st.keys
	names := recorded.Keys{Lock: k.lock, Queue: k.queue, Set: k.waiting, Channel: k.locknotif}
	n.st.b.do(append([]any{"EVAL", script, 0}, names.Args(id, 30*time.Second)...)...)
	h.counts["net calls"]++
}
