package engine

import (
	"fmt"
	"slices"
	"strings"
)

// A joint history is of several names at once, for the sake of KS.MLOCK. Each name is a history of its own,
// judged as such; they share proxies, clock and record.
type joint struct {
	*record
	names []*history // in byte order
	calls []*joining
}

// joining is a KS.MLOCK call: it takes one lock after the other, and confirms all of them.
type joining struct {
	proxy                *proxyState
	instance, token      string
	own, session, nowait bool
	lease                int64
	names                []int // of joint.names, in byte order
	held                 []*played
	next                 *played // asks for the next; nil: not yet
	repeats              bool    // not the first round
}

func (c *joining) String() string {
	return fmt.Sprintf("mlock %s@%s of %v", c.token, c.instance, c.names)
}

// has: the attempt is part of the call.
func (c *joining) has(p *played) bool { return c.next == p || slices.Contains(c.held, p) }

var jointMix = append(mix{
	{"mlock", 16}, {"mlock again", 60}, {"mlock ends", 4}, {"mlock resend", 8}, {"mlock robbed", 6}, {"lock", 12}, {"renew", 15}, {"unlock", 8},
}, commonMix...)

func newJoint(b *backend, broken map[*script]*script) *joint {
	j := &joint{}
	for _, name := range []string{"x:a", "x:b", "x:c"} {
		var h *history
		if len(j.names) == 0 {
			h = newHistory(b, broken, name)
			j.record = h.record
		} else {
			st := newStageOn(b.t, b, name)
			st.broken = broken
			h = historyOn(st, j.record, j.names[0].proxies)
		}
		h.st.others = []string{"x:a", "x:b", "x:c"}
		j.names = append(j.names, h)
	}
	return j
}

func (j *joint) play(ops []op) error {
	for _, h := range j.names {
		defer h.st.close()
	}
	for _, o := range ops {
		if err := j.step(o); err != nil {
			return err
		}
	}
	return j.drain()
}

func (j *joint) step(o op) error {
	j.counts[o.what]++
	for _, h := range j.names {
		h.tick++
		h.pass(1 + int64(o.pick(4, 200)))
	}
	if err := j.act(o); err != nil {
		return fmt.Errorf("%s: %w", o.what, err)
	}
	if err := j.settle(); err != nil {
		return fmt.Errorf("after %s: %w", o.what, err)
	}
	return nil
}

func (j *joint) act(o op) error {
	h := j.names[o.pick(0, 1<<16)>>8%len(j.names)]
	switch o.what {
	case "mlock":
		return j.arrive(o)
	case "mlock again":
		if c := j.acting(o); c != nil {
			return j.advance(c)
		}
	case "mlock ends":
		if c := j.acting(o); c != nil {
			j.giveUp(c)
		}
	case "mlock resend":
		return j.resend(o)
	case "mlock robbed": // of one that it has
		if c := j.acting(o); c != nil && len(c.held) > 0 {
			at := o.pick(2, len(c.held))
			if h := j.names[c.names[at]]; h.holder == c.held[at] {
				h.expire()
			}
		}
	case "freeze":
		j.freeze(o)
	case "thaw":
		j.thaw(h.proxies[o.pick(0, len(h.proxies))])
	case "later":
		for _, h := range j.names {
			h.later(o)
		}
	default:
		return h.act(o)
	}
	return nil
}

// acting picks a call of a proxy that does something.
func (j *joint) acting(o op) *joining {
	var some []*joining
	for _, c := range j.calls {
		if !c.proxy.frozen {
			some = append(some, c)
		}
	}
	if some == nil {
		return nil
	}
	return some[o.pick(1, len(some))]
}

// arrive is a new call, for two or three of the names.
func (j *joint) arrive(o op) error {
	p := j.names[0].acting(o, 0)
	if p == nil || len(j.calls) >= 5 {
		return nil
	}
	c := &joining{
		proxy: p, instance: p.instance, own: o.pick(1, 3) > 0, session: o.pick(2, 3) == 0, nowait: o.pick(2, 7) == 1,
		lease: []int64{5_000, 30_000, 60_000}[o.pick(3, 3)], names: []int{0, 1, 2},
	}
	if c.session {
		c.lease = 30_000
	}
	j.calls = append(j.calls, c)
	c.token = fmt.Sprintf("m%d", j.names[0].tick)
	if left := o.pick(4, 4); left < 3 {
		c.names = slices.Delete(c.names, left, left+1)
	}
	return j.advance(c)
}

// resend sends a call once more, with the same token, by another proxy.
func (j *joint) resend(o op) error {
	p := j.names[0].acting(o, 0)
	if p == nil || len(j.calls) == 0 || len(j.calls) >= 5 {
		return nil
	}
	was := j.calls[o.pick(1, len(j.calls))]
	if !was.own {
		return nil
	}
	again := *was
	again.proxy, again.instance, again.held, again.next, again.repeats = p, p.instance, nil, nil, false
	j.calls = append(j.calls, &again)
	return j.advance(&again)
}

// advance is the next ask of a call, or its end.
func (j *joint) advance(c *joining) error {
	if len(c.held) == len(c.names) {
		return j.confirm(c)
	}
	h := j.names[c.names[len(c.held)]]
	first := c.next == nil
	if first {
		c.next = h.attempt(c.proxy, c.token, false)
		c.next.session, c.next.own = true, c.own
		if c.own && !slices.Contains(h.tokens, c.token) {
			h.tokens = append(h.tokens, c.token)
		}
	}
	return h.ask(c.next, first && !c.repeats, c.nowait)
}

// settle sees what became of the attempts of calls, and of those who wait for an end.
func (j *joint) settle() error {
	for _, c := range slices.Clone(j.calls) {
		if c.next == nil || c.next.waits {
			continue
		}
		if j.names[c.names[len(c.held)]].holder != c.next {
			j.counts["mlocks nil"]++
			j.giveUp(c)
			continue
		}
		c.held, c.next = append(c.held, c.next), nil
	}
	for _, h := range j.names {
		if err := h.bells(); err != nil {
			return err
		}
		if err := h.check(); err != nil {
			return err
		}
	}
	return nil
}

// giveUp ends a call without its locks.
func (j *joint) giveUp(c *joining) {
	j.release(c)
	j.calls = slices.DeleteFunc(j.calls, func(o *joining) bool { return o == c })
}

// release lets go of all that a call has; what it leaves behind leaves later.
func (j *joint) release(c *joining) {
	j.log = append(j.log, fmt.Sprintf("%v lets go of %v", c, c.held))
	for i, p := range c.held {
		h := j.names[c.names[i]]
		h.over = append(h.over, &departing{played: p, keep: c.own})
	}
	if c.next != nil && c.next.waits {
		j.names[c.names[len(c.held)]].hangUp(c.next)
	}
	c.held, c.next = nil, nil
}

// clear lets go of all that a call has, so that it can begin anew.
func (j *joint) clear(c *joining) error {
	for i, p := range c.held {
		h := j.names[c.names[i]]
		if err := h.leaves(c.instance, []*departing{{played: p}}, true); err != nil {
			return err
		}
	}
	c.held, c.repeats = nil, true
	return nil
}

// confirm is the step in which all leases begin. It must succeed if all are held by the call's own
// attempts, and only then.
func (j *joint) confirm(c *joining) error {
	var keys []string
	var pairs []any
	before := make([]view, len(c.names))
	want := true
	for i, n := range c.names {
		h := j.names[n]
		keys = append(keys, h.st.keys.ofLine()...)
		pairs = append(pairs, c.held[i].seq, h.st.name)
		before[i] = h.look()
		want = want && h.holder == c.held[i]
	}
	mode := "l"
	if c.session {
		mode = "s"
	}
	args := append([]any{c.token, c.lease, mode + " addr name"}, pairs...)
	reply, err := j.names[c.names[0]].st.run(confirmScript, keys, c.instance, args...)
	if err != nil {
		return err
	}
	all := reply.([]any)
	confirmed := all[0] == int64(1)
	j.log = append(j.log, fmt.Sprintf("confirm %v: %v", c, reply))
	if confirmed != want {
		return fmt.Errorf("%v holds all: %v, and is answered %v; there was %v", c, want, reply, before)
	}
	for i, n := range c.names {
		h := j.names[n]
		if confirmed {
			h.ran([]any{all[1+2*i]}, c.instance)
		} else {
			h.ran(reply, c.instance)
		}
		if err := h.judge(before[i], move{by: c.instance, onlyReads: true}, false); err != nil {
			return err
		}
		lease := before[i].left
		if confirmed {
			lease = c.lease
			if err := h.judgeConfirmed(c, before[i], mode, all[2+2*i]); err != nil {
				return err
			}
			c.held[i].session = c.session
		}
		if !about(h.now.left, lease) {
			return fmt.Errorf("the lease of %s went from %d to %d ms", h.st.name, before[i].left, h.now.left)
		}
	}
	j.counts[fmt.Sprintf("confirmed %v", confirmed)]++
	if !confirmed {
		return j.clear(c)
	}
	j.calls = slices.DeleteFunc(j.calls, func(o *joining) bool { return o == c })
	return nil
}

// judgeConfirmed: the caller is told its fence, the hold is what it asked for, and the first in line who can be
// rung knows of a shorter lease.
func (h *history) judgeConfirmed(c *joining, before view, mode string, fence any) error {
	if fence != fmt.Sprint(h.fence) {
		return fmt.Errorf("%v holds %s with fence %d and was told %v", c, h.st.name, h.fence, fence)
	}
	if !strings.HasPrefix(h.now.own, mode) || !about(h.now.ttls[2], c.lease+93_600_000) {
		return fmt.Errorf("%s is held as %q, its fence for %d ms", h.st.name, h.now.own, h.now.ttls[2])
	}
	head := parseSpot(before.places[h.next(before, move{by: c.instance})])
	if before.left <= c.lease || head.instance == "" {
		return nil
	}
	if news := "ring " + head.id[2:]; !slices.Contains(h.told, news) {
		return fmt.Errorf("nobody was told %q, only %q; there was %v", news, h.told, before)
	}
	return nil
}

func (j *joint) freeze(o op) {
	lead := j.names[0]
	p := lead.proxies[o.pick(0, len(lead.proxies))]
	old := p.instance
	lead.freeze(o)
	for _, h := range j.names[1:] {
		if p.instance != old {
			h.proxyDied(p, old)
		} else if p.frozen || p.cut {
			h.proxyStopped(p)
		}
	}
	j.calls = slices.DeleteFunc(j.calls, func(c *joining) bool { return c.proxy == p && p.instance != c.instance })
}

func (j *joint) thaw(p *proxyState) {
	for _, h := range j.names[1:] {
		h.inboxReturns(p)
	}
	j.names[0].thaw(p)
}

// drain lets all calls finish: each must get what it waits for, since all others that hold give it back.
func (j *joint) drain() error {
	for _, p := range j.names[0].proxies {
		j.thaw(p)
	}
	for range 20 * (len(j.calls) + 2) {
		for _, h := range j.names {
			h.tick++
			h.pass(100)
			if err := j.turns(h); err != nil {
				return err
			}
		}
		for _, c := range slices.Clone(j.calls) {
			if err := j.advance(c); err != nil {
				return err
			}
			if err := j.settle(); err != nil {
				return err
			}
		}
	}
	if len(j.calls) > 0 {
		return fmt.Errorf("stuck: %v", j.calls)
	}
	for _, h := range j.names {
		if err := h.drain(); err != nil {
			return fmt.Errorf("%s: %w", h.st.name, err)
		}
	}
	return nil
}

// turns is history.turns, but for what KS.MLOCK calls have and wait for.
func (j *joint) turns(h *history) error {
	if len(h.over) > 0 {
		if err := h.act(op{what: "leave", dice: [5]uint32{2: 1}}); err != nil {
			return err
		}
	}
	joins := func(p *played) bool {
		return slices.ContainsFunc(j.calls, func(c *joining) bool { return c.has(p) })
	}
	for _, p := range slices.Clone(h.calls) {
		if !p.waits || joins(p) {
			continue
		}
		if err := h.ask(p, false, false); err != nil {
			return err
		}
	}
	if h.holder != nil && !joins(h.holder) {
		if err := h.release(h.holder.instance, h.holder.token); err != nil {
			return err
		}
	}
	h.expireForeign()
	return j.settle()
}
