package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// acting picks a proxy that does something.
func (h *history) acting(o op, die int) *proxyState {
	var some []*proxyState
	for _, p := range h.proxies {
		if !p.frozen {
			some = append(some, p)
		}
	}
	if some == nil {
		return nil
	}
	return some[o.pick(die, len(some))]
}

// arrive is a new call.
func (h *history) arrive(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	c := h.attempt(p, "", o.what == "memo")
	c.session = o.pick(1, 3) == 0
	c.own = o.pick(2, 3) > 0
	if c.own {
		h.tokens = append(h.tokens, c.token)
	}
	if err := h.ask(c, true, o.pick(3, 8) == 0); err != nil {
		return err
	}
	if o.pick(3, 20) == 1 { // the reply is lost with the connection
		h.lost(c)
	}
	return nil
}

// lost ends a call whose caller is gone, whatever it was answered.
func (h *history) lost(c *played) {
	h.note("the reply is lost")
	h.counts["lost replies"]++
	h.forget(c)
	h.over = append(h.over, &departing{played: c, keep: c.own})
}

func (h *history) attempt(p *proxyState, token string, memo bool) *played {
	h.seq++
	c := &played{
		token: token, instance: p.instance, proxy: p, seq: h.seq, memo: memo, since: -1, steady: !p.cut,
	}
	if token == "" {
		c.token = fmt.Sprintf("t%d", h.seq)
	}
	return c
}

// resend sends a caller's token again by another attempt, be the earlier waiting, over, kept, granted or
// unlocked.
func (h *history) resend(o op) error {
	p := h.acting(o, 0)
	if p == nil || len(h.tokens) == 0 {
		return nil
	}
	last := h.tokens[max(0, len(h.tokens)-8):] // older ones are forgotten by their callers
	token := last[o.pick(1, len(last))]
	if h.holder != nil && h.holder.own && o.pick(4, 3) > 0 {
		token = h.holder.token
	}
	memo := false
	for _, place := range []string{h.now.places[token], h.now.att} {
		if place == h.now.att && h.now.tok != token {
			continue
		}
		memo = memo || strings.HasPrefix(place, "m:")
	}
	if h.holder != nil && h.holder.token == token {
		memo = h.holder.memo
		if o.pick(2, 2) == 0 && !h.holder.proxy.frozen { // its client has hung up before
			h.over = append(h.over, &departing{played: h.holder})
		}
	}
	c := h.attempt(p, token, memo)
	c.own, c.session = true, o.pick(3, 3) == 0
	for _, old := range h.calls {
		if old.token == token {
			c.memo = old.memo
		}
	}
	if o.pick(4, 9) == 0 { // for the other command
		c.memo = !c.memo
	}
	return h.ask(c, true, o.what == "nowait")
}

func (h *history) ask(c *played, first, nowait bool) error {
	args := []string{c.token, c.attempt(), fmt.Sprintf("seen=%d", c.proxy.seen)}
	for word, on := range map[string]bool{"memo": c.memo, "again": !first, "nowait": nowait, "session": c.session} {
		if on {
			args = append(args, word)
		}
	}
	if c.since >= 0 {
		args = append(args, fmt.Sprintf("since=%d", c.since))
	}
	before := h.now
	want := h.foresee(c, first, nowait)
	reply, err := h.st.ask(args)
	if err != nil {
		return fmt.Errorf("ask %v: %w", c, err)
	}
	list := reply.([]any)
	verdict := list[0].(string)
	text := verdict
	if verdict == "value" || verdict == "rejected" || verdict == "stale" {
		text += " " + list[1].(string)
	}
	h.ran(reply, c.instance)
	h.note("ask %s first=%v nowait=%v session=%v: %s   %v", c.placed(), first, nowait, c.session, text, h.now)
	h.counts["verdict "+verdict]++
	if text != want {
		return fmt.Errorf("%v was answered %q, not %q", c, text, want)
	}
	if err := h.judgeAsk(before, c, first, nowait, list); err != nil {
		return err
	}
	for _, old := range h.calls { // it has been taken over
		old.steady = old.steady && (!first || verdict == "no" || old.token != c.token)
	}
	switch verdict {
	case "granted":
		return h.granted(c, list[1].(string))
	case "wait":
		if c.since < 0 {
			c.since, _ = strconv.ParseInt(list[5].(string), 10, 64)
			c.joined = h.tick
		}
		if !c.waits {
			c.waits = true
			h.calls = append(h.calls, c)
		}
		if !slices.Contains(before.line, c.token) && !(before.lapsed() && before.tok == c.token) {
			h.came[c.token] = h.tick
		}
	default:
		h.forget(c)
	}
	return nil
}

func (p *played) placed() string { return p.token + " " + p.place() }

func (h *history) granted(c *played, fence string) error {
	var n int64
	if _, err := fmt.Sscan(fence, &n); err != nil {
		return err
	}
	h.forget(c)
	h.counts["grants"]++
	again := h.holder != nil && !h.unrecorded
	switch {
	case h.holder != nil && h.holder.token != c.token:
		return fmt.Errorf("%v was granted while %v holds", c, h.holder)
	case again && n != h.fence:
		return fmt.Errorf("%v holds with fence %d and was told %d", c, h.fence, n)
	case !again && n <= h.fence:
		return fmt.Errorf("%v was granted fence %d after %d", c, n, h.fence)
	case !again && n <= c.proxy.seen && h.unheard != c.token:
		return fmt.Errorf("%v was granted fence %d, its proxy has seen %d", c, n, c.proxy.seen)
	}
	if h.holder == nil && !h.mixed {
		mine, waited := h.came[c.token]
		for _, other := range h.calls {
			if other.steady && other.token != c.token && (!waited || h.came[other.token] < mine) {
				return fmt.Errorf("%v overtook %v", c, other)
			}
		}
	}
	delete(h.came, c.token)
	delete(h.revoked, c.token)
	h.unheard = ""
	h.holder, h.fence, h.unrecorded = c, n, false
	c.proxy.seen = max(c.proxy.seen, n)
	if c.session {
		h.sessions = append(h.sessions, c)
		h.sessions = h.sessions[max(0, len(h.sessions)-4):]
	}
	return nil
}

func (h *history) forget(c *played) {
	c.waits = false
	h.calls = slices.DeleteFunc(h.calls, func(o *played) bool { return o == c })
}

// waiting picks a call of a proxy that acts.
func (h *history) waiting(o op) *played {
	var some []*played
	for _, c := range h.calls {
		if c.proxy.frozen {
			continue
		}
		some = append(some, c)
		if c.token == h.now.owner && o.what == "again" && o.pick(1, 3) > 0 { // its bell has rung
			return c
		}
	}
	if some == nil {
		return nil
	}
	return some[o.pick(0, len(some))]
}

// someToken is the holder's, mostly, or somebody else's.
func (h *history) someToken(o op) string {
	others := append([]string{"odd", h.now.owner}, h.now.line...)
	others = append(others, h.tokens...)
	if h.holder != nil && o.pick(1, 5) > 0 {
		return h.holder.token
	}
	if o.pick(1, 5) == 4 {
		return h.now.owner
	}
	return others[o.pick(2, len(others))]
}

func (h *history) unlock(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	return h.release(p.instance, h.someToken(o))
}

func (h *history) release(instance, token string) error {
	before := h.now
	next := h.named(instance)
	args := []string{instance, token}
	if next != nil {
		args = append(args, fmt.Sprintf("%s:%d", next.token, next.seq), fmt.Sprintf("seen=%d", next.proxy.seen))
		if next.session {
			args = append(args, "session")
		}
	}
	reply, err := h.st.release(args)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", token, err)
	}
	list := reply.([]any)
	said, direct := list[0] == int64(1), directly(list)
	h.ran(reply, instance)
	h.note("unlock %s at %s, %v next: %v %v   %v", token, instance, next, said, direct, h.now)
	m := move{by: instance, ends: said, gone: leftover(before, token)}
	if direct {
		m.direct = next
	}
	if said {
		m.dismissed = h.dismiss(before, instance)
	}
	if said != (token != "" && before.owner == token) {
		return fmt.Errorf("the lock is %q's, and unlocking it with %q was answered %v", before.owner, token, said)
	}
	if err := h.judge(before, m, !said); err != nil {
		return err
	}
	h.ended(token, said)
	if !direct {
		return nil
	}
	h.counts["handed directly"]++
	if h.tick%7 == 0 { // the reply is lost: he learns it when he asks
		h.counts["lost replies"]++
		h.unheard = next.token
		return nil
	}
	return h.granted(next, list[2].(string))
}

// named is who stands first in line as far as a proxy knows, if it is one of its own; it may be wrong.
func (h *history) named(instance string) (next *played) {
	for _, c := range h.calls {
		if c.instance == instance && !c.memo && (next == nil || h.tick%5 == 0) {
			next = c
		}
	}
	return next
}

// leftover is the place in line of a token that gives the lock back, if it has one: nobody stands there.
func leftover(before view, token string) map[string]bool {
	if _, placed := before.places[token]; !placed {
		return nil
	}
	return map[string]bool{token: false}
}

// ended: the hold of token ended, or not.
func (h *history) ended(token string, yes bool) {
	if !yes {
		return
	}
	if h.holder != nil && h.holder.token == token {
		h.holder, h.unrecorded = nil, false
	}
	for _, c := range h.calls { // it was handed to him, and he has not asked yet
		c.steady = c.steady && c.token != token
	}
}

// dismiss notes the attempt of a connection whose hold an instance has ended by its token, if it is another's.
func (h *history) dismiss(before view, by string) string {
	held := before.owner == before.tok && before.st == "h" && strings.HasPrefix(before.own, "s")
	if !held || parseSpot(before.att).instance == by {
		return ""
	}
	_, attempt, _ := strings.Cut(before.att, ":")
	h.end(attempt, renewEnded)
	return attempt
}

func (h *history) end(attempt string, how int) {
	if h.ends == nil {
		h.ends = map[string]int{}
	}
	h.ends[attempt] = how
}

// answerTTL is how long, in ms, some values and rejections answer everyone; Redis's clock is behind the
// history's.
const answerTTL = 4000

// answer resolves or rejects.
func (h *history) answer(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	token, text := h.someToken(o), fmt.Sprintf("%s%d", o.what, h.tick)
	args := []string{p.instance, token, text}
	if o.pick(3, 2) == 0 {
		args = append(args, fmt.Sprint(answerTTL))
		if o.what == "resolve" && o.pick(4, 4) > 0 {
			args = append(args, fmt.Sprint(staleFor))
		}
	}
	before := h.now
	call := h.st.resolve
	if o.what == "reject" {
		call = h.st.reject
	}
	reply, err := call(args)
	if err != nil {
		return err
	}
	said := reply.([]any)[0] == int64(1)
	h.ran(reply, p.instance)
	h.note("%s %v: %v   %v", o.what, args, said, h.now)
	promise := token != "" && before.owner == token && (before.tok != token || !strings.HasPrefix(before.att, "l:") && before.st != "p")
	if h.holder != nil && h.holder.token == token && !h.unrecorded {
		promise = h.holder.memo
	}
	// that it waits again is not known any more where a KeySmith process has handed it the lock, and it has not claimed it
	if said && h.revoked[token] && before.tok == token {
		return fmt.Errorf("the promise of %s was revoked, and it was answered %v", token, said)
	}
	if said != promise {
		return fmt.Errorf("%s holds the promise: %v, and was answered %v", token, promise, said)
	}
	m := move{by: p.instance, ends: said, struck: said, excused: strings.HasPrefix(before.att, "m:"), word: "ready"}
	m.gone = leftover(before, token)
	if o.what == "reject" {
		m.word = "rejected"
	}
	if said {
		m.dismissed = h.dismiss(before, p.instance)
	}
	if err := h.judge(before, m, !said); err != nil {
		return err
	}
	if !said {
		return nil
	}
	h.counts[o.what+"d"]++
	for _, c := range h.calls { // they are struck
		c.steady = c.steady && !c.memo
	}
	h.ended(token, true)
	if o.what == "resolve" {
		h.rejected, h.valueUntil = rejection{}, 0
		if len(args) > 3 {
			h.valueUntil = h.st.now + answerTTL
		}
		if !h.now.hasValue || h.now.value != text || len(args) > 3 != about(h.now.ttls[3], answerTTL) {
			return fmt.Errorf("%s is not stored, or for %d ms", text, h.now.ttls[3])
		}
		return h.checkCopy(text, args)
	}
	h.rejected = rejection{message: text, tick: h.tick, until: h.st.now + rejectOnce, all: len(args) > 3}
	if h.rejected.all {
		h.stale = staleCopy{}
		h.rejected.until = h.st.now + answerTTL
	}
	if want := h.rejected.until - h.st.now; !about(h.now.ttls[4], want) {
		return fmt.Errorf("%s is kept for %d ms, not %d", text, h.now.ttls[4], want)
	}
	return nil
}

// forgetValue: the source of the value has changed.
func (h *history) forgetValue(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	before := h.now
	reply, err := h.st.forget(p.instance)
	if err != nil {
		return err
	}
	list := reply.([]any)
	said := list[0] == int64(1)
	h.ran(reply, p.instance)
	h.note("forget at %s: %v   %v", p.instance, said, h.now)
	revoked := before.owner != "" && before.owner == before.tok && before.st == "h" && strings.HasPrefix(before.att, "m:")
	if h.holder != nil && !h.unrecorded && revoked != h.holder.memo {
		return fmt.Errorf("%v holds, and was revoked: %v", h.holder, revoked)
	}
	if all := strings.HasPrefix(before.failure, "m"); said != (revoked || before.hasValue || before.copied || all) {
		return fmt.Errorf("there was %v, and forgetting it was answered %v", before, said)
	} else if all {
		before.failure, h.rejected = "", rejection{}
	}
	before.value, before.hasValue, h.valueUntil, h.stale = "", false, 0, staleCopy{}
	if h.now.hasValue || h.now.copied || h.now.failure != before.failure {
		return fmt.Errorf("it is not forgotten: %v", h.now)
	}
	if lost := slices.Contains(h.told, "lost "+before.owner); lost != revoked {
		return fmt.Errorf("that %s was revoked: %v; told: %q", before.owner, revoked, h.told)
	}
	mine := revoked && strings.HasPrefix(before.own, "s") && parseSpot(before.att).instance == p.instance
	if mine != (list[2] != "0") || mine && !strings.HasSuffix(before.att, ":"+list[2].(string)) {
		return fmt.Errorf("the connection of %s was to be told %v", before.att, list[2])
	}
	m := move{by: p.instance, ends: revoked}
	if revoked {
		m.dismissed = h.dismiss(before, p.instance)
		if _, attempt, _ := strings.Cut(before.att, ":"); mine || m.dismissed != "" {
			h.end(attempt, renewRevoked)
		}
	}
	if err := h.judge(before, m, !revoked); err != nil {
		return err
	}
	if revoked {
		h.counts["revoked"]++
		h.revoked[before.owner] = true
	}
	h.ended(before.owner, revoked)
	return nil
}

func (h *history) extend(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	token, lease := h.someToken(o), []int64{8_000, 20_000, 60_000}[o.pick(3, 3)]
	before := h.look()
	reply, err := h.st.run(extendScript, h.st.keys.ofLine(), p.instance, token, lease)
	if err != nil {
		return err
	}
	said := reply.([]any)[0] == int64(1)
	h.ran(reply, p.instance)
	h.note("extend %s %d: %v, from %d to %d", token, lease, said, before.left, h.now.left)
	handed := before.tok == token && before.st != "h"
	if said != (token != "" && before.owner == token && !handed) {
		return fmt.Errorf("the lock is %q's, and extending it with %q was answered %v", before.owner, token, said)
	}
	session := h.holder != nil && !h.unrecorded && h.holder.session
	if h.holder == nil && h.unheard == token { // it was handed to him directly, and nobody has told him
		session = before.tok == token && strings.HasPrefix(before.own, "s")
	}
	if said && !session {
		if !about(h.now.left, lease) {
			return fmt.Errorf("extended to %d ms, it has %d", lease, h.now.left)
		}
	} else if !about(h.now.left, before.left) {
		return fmt.Errorf("the lease went from %d to %d", before.left, h.now.left)
	}
	return h.judge(before, move{by: p.instance}, !said)
}

// about allows for the time that the test takes.
func about(ms, want int64) bool { return ms <= want && ms >= want-1500 }

// renew renews for one that was granted the lock for as long as its connection lasts, whatever became of it.
func (h *history) renew(o op) error {
	var some []*played
	for _, c := range h.sessions {
		if !c.proxy.frozen && c.instance == c.proxy.instance {
			some = append(some, c)
		}
	}
	if some == nil {
		return nil
	}
	c := some[o.pick(0, len(some))]
	for _, older := range some { // rare, and the worst
		if older != h.holder && older.token == h.now.owner || older == h.holder && o.pick(2, 3) == 0 {
			c = older
		}
	}
	lease := []int64{8_000, 30_000}[o.pick(1, 2)]
	before := h.look()
	reply, err := h.st.run(renewScript, h.st.keys.ofLine(), c.instance, c.token, c.seq, lease)
	if err != nil {
		return err
	}
	h.ran(reply, c.instance)
	h.note("renew %v: %v, from %d to %d", c, reply, before.left, h.now.left)
	h.counts[fmt.Sprintf("renewed with %v", reply)]++
	want := renewed
	switch {
	case before.owner != c.token && h.ends[c.attempt()] != 0:
		want = h.ends[c.attempt()]
	case before.owner != c.token:
		want = renewLost
	case h.holder == c && c.session || h.unrecorded:
	case before.tok == c.token:
		want = renewSuperseded
	}
	if reply != int64(want) {
		return fmt.Errorf("%v holds: %v; it was renewed with %v, not %d", h.holder, c, reply, want)
	}
	left := before.left
	if want == renewed {
		left = max(left, lease)
	}
	if !about(h.now.left, left) {
		return fmt.Errorf("renewed with %v the lease went from %d to %d", reply, before.left, h.now.left)
	}
	return h.judge(before, move{by: c.instance, onlyReads: true}, false)
}

func (h *history) status(o op) error {
	reply, err := h.st.run(statusScript, h.st.keys.ofMemo(), h.proxies[o.pick(0, 3)].instance)
	if err != nil {
		return err
	}
	now := h.look()
	got := reply.([]any)
	want := []any{
		int64(asFlag(now.owner != "")), got[1], got[2], fmt.Sprint(now.n), int64(len(now.line)), int64(asFlag(now.hasValue)),
		int64(asFlag(strings.HasPrefix(now.failure, "m"))),
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%v instead of %v", got, want)
	}
	return h.judge(h.now, move{onlyReads: true}, false)
}
