package soak

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// wish is what a KS.MEMO or KS.LOCK asks for.
type wish struct {
	lease  time.Duration // 0: SESSION
	wait   time.Duration // 0: none
	nowait bool
	token  string // empty: of the proxy's choice
	args   []string
}

func (c *client) wish(command string, e *entry) wish {
	w := wish{args: []string{command, e.name}}
	if c.chance(4) {
		w.args = append(w.args, "SESSION")
	} else {
		w.lease = c.between(200*time.Millisecond, 2500*time.Millisecond)
		w.args = append(w.args, "PX", ms(w.lease))
	}
	switch c.random.IntN(10) {
	case 0:
		w.nowait = true
		w.args = append(w.args, "NOWAIT")
	case 1, 2, 3:
	default:
		w.wait = c.between(30*time.Millisecond, 3*time.Second)
		w.args = append(w.args, "WAIT", ms(w.wait))
	}
	if c.chance(3) {
		c.tokens++
		w.token = fmt.Sprintf("t%d-%d-%d", c.seed, c.id, c.tokens)
		w.args = append(w.args, "TOKEN", w.token)
	}
	return w
}

// bound is how long a call may take.
func (w wish) bound() time.Duration {
	if w.nowait || w.wait > 0 {
		return w.wait + soon
	}
	return -1
}

// request sends w, again and again if it has a token; asked is when it was sent first, tries how often.
func (c *client) request(ctx context.Context, e *entry, w wish) (a answer, v view, asked int64, tries int) {
	for {
		patience := time.Duration(0)
		switch {
		case w.token != "" && tries < 6 && c.chance(3):
			patience = 20*time.Millisecond + c.upTo(500*time.Millisecond)
		case c.chance(20):
			patience = time.Millisecond + c.upTo(100*time.Millisecond)
		}
		if !c.connect(e.db) {
			a = answer{status: unsent}
		} else {
			v = e.look()
			a = c.exchange(e, w.bound(), patience, w.args...)
			tries++
			if asked == 0 {
				asked = a.call
			}
		}
		switch {
		case a.status == answered:
			if w.wait > 0 || w.nowait {
				c.waited(w.wait, time.Duration(a.ret-a.call))
			}
			return a, v, asked, tries
		case a.status == timedOut:
			c.did("client gave up or asked again")
		case a.status == broken:
			c.did("connection ended while it asked")
		}
		if w.token == "" && a.status != unsent || tries > 8 || ctx.Err() != nil && c.chance(5) {
			return a, v, asked, tries
		}
		time.Sleep(c.upTo(30 * time.Millisecond)) // before the next try
	}
}

// memo asks for a value, and makes it if it is told to.
func (c *client) memo(ctx context.Context, e *entry) {
	w := c.wish("KS.MEMO", e)
	a, v, asked, tries := c.request(ctx, e, w)
	if a.status != answered {
		return
	}
	switch reply := a.value.(type) {
	case nil:
		c.count("KS.MEMO: nil")
		e.other(v, a.ret, "nil")
		if w.wait == 0 && !w.nowait && tries == 1 {
			e.complain("client %d: %q answers nil after %v", c.id, w.args, time.Duration(a.ret-a.call))
		}
		if early := int64(w.wait) - (a.ret - a.call); w.wait > 0 && tries == 1 && early > margin {
			e.complain("client %d: %q answers nil %v too early", c.id, w.args, time.Duration(early))
		}
	case stage.Refusal:
		if message, rejected := strings.CutPrefix(string(reply), "MEMOERR "); rejected {
			c.count("KS.MEMO: MEMOERR")
			e.rejection(v, a.ret, message)
			return
		}
		c.refused(e, "KS.MEMO", string(reply))
	case []any:
		c.told(e, w, a, v, asked, tries, reply)
	default:
		e.complain("client %d: %q answers %s", c.id, w.args, short(reply))
	}
}

func (c *client) told(e *entry, w wish, a answer, v view, asked int64, tries int, reply []any) {
	var word, text string
	if len(reply) == 2 {
		word, _ = reply[0].(string)
		text, _ = reply[1].(string)
	}
	switch word {
	case "value", "stale":
		c.count("KS.MEMO: " + word)
		e.value(v, a.ret, text, word == "stale")
	case "generate":
		c.count("KS.MEMO: generate")
		e.other(v, a.ret, "generate")
		if w.token != "" && text != w.token {
			e.complain("client %d: %q is granted to %s", c.id, w.args, text)
		}
		h := hold{token: text, promise: true, asked: asked, begin: a.ret, resent: tries > 1}
		if w.lease > 0 {
			h.lease = asked + int64(w.lease)
		}
		c.generate(e, w, h)
	default:
		e.complain("client %d: %q answers %s", c.id, w.args, short(reply))
	}
}

// generate makes the value, or not.
func (c *client) generate(e *entry, w wish, h hold) {
	version := e.source.Load()
	switch n := c.random.IntN(20); {
	case n == 0 && w.lease > 0 && w.lease < 900*time.Millisecond:
		c.did("generator slept past its lease")
		time.Sleep(w.lease + c.upTo(200*time.Millisecond))
	case n < 7:
		time.Sleep(c.upTo(200 * time.Millisecond)) // it computes
	default:
		time.Sleep(c.upTo(20 * time.Millisecond)) // it computes
	}
	if c.chance(12) {
		lease := c.between(200*time.Millisecond, 2*time.Second)
		a := c.ask(e, soon, 0, "KS.EXTEND", e.name, h.token, "PX", ms(lease))
		if a.status != unsent {
			h.extended(a, w.lease, lease, c, e)
		}
	}
	switch n := c.random.IntN(100); {
	case n < 76:
		c.resolve(e, &h, version)
	case n < 88:
		c.reject(e, &h, version)
	case n < 94:
		c.unlock(e, &h)
	default:
		c.did("generator died")
		c.drop()
		h.over = c.now()
		if w.lease > 0 {
			h.over = 0 // it stays until its lease runs out
		}
	}
	e.held(h)
}

// extended notes what a KS.EXTEND has told.
func (h *hold) extended(a answer, had, lease time.Duration, c *client, e *entry) {
	_, o := c.number(e, a, "KS.EXTEND")
	switch {
	case had == 0: // it stays as it is
	case o == yes:
		h.lease = a.call + int64(lease)
	default: // it may have been shortened
		h.lease = min(h.lease, a.call+int64(lease))
	}
	if o == yes {
		h.proven = a.call
	}
}

func (c *client) resolve(e *entry, h *hold, version int64) {
	size := 0
	if c.chance(60) {
		size = 40_000 + c.random.IntN(60_000)
	}
	r := e.make("resolve", version, size)
	r.resent = h.resent
	args := []string{"KS.RESOLVE", e.name, h.token, r.text}
	switch c.random.IntN(20) {
	case 0, 1: // for ever
	case 2, 3:
		r.ttl = c.between(time.Millisecond, 30*time.Millisecond)
	case 4:
		r.ttl = time.Second
		args = append(args, "EX", "1")
	default:
		r.ttl = c.between(20*time.Millisecond, 2500*time.Millisecond)
	}
	if r.ttl > 0 && len(args) == 4 {
		args = append(args, "PX", ms(r.ttl))
	}
	if r.ttl > 0 && c.chance(3) {
		r.stale = c.between(20*time.Millisecond, 3*time.Second)
		args = append(args, "STALE", ms(r.stale))
	}
	if c.finish(e, h, r, args) && c.chance(8) {
		again := e.make("resolve", version, 0)
		again.resent = h.resent
		_, number := e.change()
		again.call = c.now()
		a := c.ask(e, soon, 0, "KS.RESOLVE", e.name, h.token, again.text)
		_, o := c.number(e, a, "KS.RESOLVE again")
		e.settled(again, o, a.ret)
		e.changed(number, a.call, o, nil)
		if o == yes && !h.resent {
			e.complain("client %d: a second KS.RESOLVE of %s answers 1", c.id, h.token)
		}
	}
}

func (c *client) reject(e *entry, h *hold, version int64) {
	r := e.make("reject", version, 0)
	args := []string{"KS.REJECT", e.name, h.token, r.text}
	if c.chance(2) {
		r.ttl = c.between(20*time.Millisecond, 2*time.Second)
		args = append(args, "PX", ms(r.ttl))
	}
	c.finish(e, h, r, args)
}

// finish sends a KS.RESOLVE or KS.REJECT until its outcome is known; true if it was accepted.
func (c *client) finish(e *entry, h *hold, r *record, args []string) bool {
	sent := 0
	for range 30 {
		if !c.connect(e.db) {
			continue
		}
		_, number := e.change()
		sent++
		e.mu.Lock()
		if sent == 1 {
			r.call = c.now()
			h.over = r.call
		}
		e.mu.Unlock()
		a := c.exchange(e, soon, 0, args...)
		_, o := c.number(e, a, args[0])
		if o == unknown {
			e.changed(number, a.call, unknown, nil)
			time.Sleep(c.upTo(50 * time.Millisecond)) // before the next try
			continue
		}
		if sent == 1 {
			e.released(args[0], *h, a.call, a.ret, o)
		} else if o == no {
			o = unknown // an earlier try may have been the one
		}
		e.settled(r, o, a.ret)
		if o == yes {
			h.proven = r.call
		}
		stored := r
		removes := o
		if r.kind == "reject" {
			stored, removes = nil, no // it stores no value; what a stranger stored meanwhile stays
		}
		if o != yes {
			stored = nil
		}
		if o == unknown {
			removes = no // but it is over
		}
		e.changed(number, r.call, removes, stored)
		return o == yes
	}
	c.drop() // what was taken for as long as it lasts goes with it
	return false
}

func (c *client) unlock(e *entry, h *hold) {
	for try := range 30 {
		if !c.connect(e.db) {
			continue
		}
		if try == 0 || h.over == 0 {
			h.over = c.now()
		}
		a := c.exchange(e, soon, 0, "KS.UNLOCK", e.name, h.token)
		_, o := c.number(e, a, "KS.UNLOCK")
		if o == unknown {
			time.Sleep(c.upTo(50 * time.Millisecond)) // before the next try
			continue
		}
		if a.call <= h.over+int64(time.Millisecond) {
			e.released("KS.UNLOCK", *h, a.call, a.ret, o)
		}
		if o == yes {
			h.proven = h.over
		}
		return
	}
	c.drop()
}

// lock takes the lock in the same line.
func (c *client) lock(ctx context.Context, e *entry) {
	w := c.wish("KS.LOCK", e)
	a, _, asked, tries := c.request(ctx, e, w)
	if a.status != answered {
		return
	}
	if a.value == nil {
		c.count("KS.LOCK: nil")
		return
	}
	if words, refused := a.value.(stage.Refusal); refused {
		c.refused(e, "KS.LOCK", string(words))
		return
	}
	g, err := stage.AsGrant(a.value)
	if err != nil {
		e.complain("client %d: %q: %v", c.id, w.args, err)
		return
	}
	c.count("KS.LOCK: granted")
	h := hold{token: g.Token, asked: asked, begin: a.ret, resent: tries > 1}
	if w.lease > 0 {
		h.lease = asked + int64(w.lease)
	}
	time.Sleep(c.upTo(60 * time.Millisecond)) // it works
	switch {
	case c.chance(15):
		c.did("holder of a lock died")
		c.drop()
		if w.lease == 0 {
			h.over = c.now()
		}
	default:
		c.unlock(e, &h)
	}
	e.held(h)
}

// forget changes the source and says so.
func (c *client) forget(e *entry) {
	version := e.source.Add(1)
	if !c.connect(e.db) {
		return
	}
	certain, number := e.change()
	index := e.forget(c.now())
	a := c.exchange(e, soon, 0, "KS.FORGET", e.name)
	_, o := c.number(e, a, "KS.FORGET")
	if o != unknown {
		e.forgot(index, version, a.call, a.ret)
		c.mustHave(e, certain, number, a, o, "KS.FORGET")
		o = yes // it removes what there is
	}
	e.changed(number, a.call, o, nil)
}

// mustHave complains if something was removed that was certainly there, and the answer is 0.
func (c *client) mustHave(e *entry, certain *record, number uint64, a answer, o outcome, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o == no && certain != nil && e.changes == number && (certain.ttl == 0 || certain.call+int64(certain.ttl) > a.ret) {
		e.wrong("%s answers 0 (sent at %v) while %s stood", what, time.Duration(a.call), certain.text60())
	}
}

// delete removes the value as any client may.
func (c *client) delete(e *entry) {
	if !c.connect(e.db) {
		return
	}
	certain, number := e.change()
	a := c.exchange(e, soon, 0, "DEL", e.name)
	_, o := c.number(e, a, "DEL")
	if o != unknown {
		c.mustHave(e, certain, number, a, o, "DEL")
		o = yes
	}
	e.changed(number, a.call, o, nil)
}

// status asks what is known.
func (c *client) status(e *entry) {
	a := c.ask(e, soon, 0, "KS.STATUS", e.name)
	if fields, ok := a.value.([]any); a.status == answered && (!ok || len(fields)%2 != 0) {
		if words, refused := a.value.(stage.Refusal); refused {
			c.refused(e, "KS.STATUS", string(words))
			return
		}
		e.complain("KS.STATUS answers %s", short(a.value))
	}
}
