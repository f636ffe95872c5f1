package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	histories   = flag.Int("histories", 60, "random histories that TestHistories plays")
	historySeed = flag.Uint64("history.seed", 0, "seed of the first of them; the others follow")
	historyTime = flag.Duration("history.time", 0, "play histories of fresh seeds for that long instead")
)

// historySteps is how long a history is, before everyone has his turn.
const historySteps = 200

// A history is random calls of three proxies, of strangers and of other libraries, played against the
// scripts with a clock of its own, on one name. What must hold is looked after twice. Here, by what callers
// are told: one holder at a time, rising fences, the order of arrival among those whose proxy was there all
// the time, a value or a rejection for those it is for, nobody stuck, nothing left over. And in
// history_rules_test.go, script by script, by what Redis holds before and after.
type history struct {
	st  *stage
	log []string
	now view // what Redis holds

	proxies  []*proxyState
	seq      int
	came     map[string]int // tick at which a token got into the line
	tick     int
	calls    []*played    // told to wait
	over     []*departing // ended, and Redis does not know yet
	sessions []*played    // granted for as long as a connection lasts, and what became of it
	holder   *played
	fence    int64
	tokens   []string // of callers who may send them again
	rejected rejection

	unrecorded bool             // the fence was lost: nobody knows whose the hold is
	halved     bool             // a stranger deleted the queue, and left the hash
	mixed      bool             // strangers took part: no order of arrival
	burnt      map[string]int64 // instances that did not claim, and have not asked since: when
	net        *keySmith

	counts map[string]int
}

// op is a step: what, and the dice for its choices. Steps without candidates do nothing, so that any of them
// may be left out.
type op struct {
	what string
	dice [5]uint32
}

func (o *op) pick(i, n int) int { return int(o.dice[i]) % n }

// proxyState is one of the three proxies; a restart gives it a new instance.
type proxyState struct {
	instance string
	frozen   bool // does nothing
	cut      bool // has lost its inbox
	restarts int
	seen     int64 // highest fence, of any name
}

// played is one attempt.
type played struct {
	token, instance string
	proxy           *proxyState
	seq             int
	memo, session   bool
	own             bool  // its token is the caller's
	since           int64 // fence at the first answer to wait, -1: none yet
	joined          int   // tick of that
	unsure          bool  // fences began anew while it waited
	waits           bool
	steady          bool // its proxy was there since it came, and it claimed what it was handed
}

func (p *played) String() string {
	return fmt.Sprintf("%s@%s:%d", p.token, p.instance, p.seq)
}

func (p *played) attempt() string { return fmt.Sprintf("%s:%d", p.instance, p.seq) }

func (p *played) place() string {
	if p.memo {
		return "m:" + p.attempt()
	}
	return "l:" + p.attempt()
}

// departing is an attempt that is over.
type departing struct {
	*played
	keep bool
}

// rejection is the last one, if it still answers anyone.
type rejection struct {
	message string
	tick    int
	until   int64 // ms; 0: none
	all     bool
}

// mix says how often what happens.
type mix []struct {
	what   string
	weight int
}

var (
	locksMix = mix{
		{"lock", 22}, {"again", 25}, {"unlock", 14}, {"hang up", 8}, {"leave", 8}, {"expire", 5}, {"resend", 7},
		{"nowait", 3}, {"freeze", 4}, {"thaw", 6}, {"extend", 3}, {"renew", 4}, {"end session", 3}, {"unclaimed", 2},
		{"look", 2}, {"later", 3}, {"status", 1}, {"seen", 1},
	}
	memoMix = append(mix{
		{"memo", 25}, {"again", 15}, {"resolve", 8}, {"reject", 6}, {"value gone", 8}, {"value set", 2}, {"error gone", 2},
	}, locksMix...)
	meddleMix = append(mix{
		{"del queue", 2}, {"del places", 2}, {"del fence", 2}, {"del line", 2}, {"flush", 2}, {"stray", 1},
	}, memoMix...)
	foreignMix = append(mix{
		{"net ask", 12}, {"net release", 10}, {"net listens", 3}, {"net forgets", 2}, {"ml lock", 4}, {"ml value", 4},
	}, memoMix...)
	mixes = []mix{locksMix, memoMix, meddleMix, foreignMix}
)

// newOps is the history of a seed.
func newOps(seed uint64, steps int) []op {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := mixes[seed%uint64(len(mixes))]
	total := 0
	for _, c := range m {
		total += c.weight
	}
	ops := make([]op, steps)
	for i := range ops {
		n := rng.IntN(total)
		for _, c := range m {
			if n -= c.weight; n < 0 {
				ops[i].what = c.what
				break
			}
		}
		for d := range ops[i].dice {
			ops[i].dice[d] = rng.Uint32()
		}
	}
	return ops
}

// playOps plays a history on an empty Redis. Its error is what must not be.
func playOps(b *backend, broken map[*script]*script, ops []op) (*history, error) {
	b.do("FLUSHALL")
	st := newStage(b.t, b)
	defer st.close()
	st.broken = broken
	h := &history{st: st, burnt: map[string]int64{}, came: map[string]int{}, counts: map[string]int{}}
	h.net = &keySmith{st: st}
	for _, name := range []string{"A", "B", "C"} {
		h.proxies = append(h.proxies, &proxyState{instance: name})
		st.live(name)
	}
	h.now = h.look()
	for _, o := range ops {
		if err := h.step(o); err != nil {
			return h, err
		}
	}
	return h, h.drain()
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%d ", h.st.now)+fmt.Sprintf(format, args...))
}

func (h *history) step(o op) error {
	h.tick++
	h.pass(1 + int64(o.pick(4, 200)))
	h.counts[o.what]++
	if err := h.act(o); err != nil {
		return fmt.Errorf("%s: %w", o.what, err)
	}
	return h.check()
}

func (h *history) act(o op) error {
	switch o.what {
	case "lock", "memo":
		return h.arrive(o)
	case "again":
		if c := h.waiting(o); c != nil {
			return h.ask(c, false, false)
		}
	case "resend", "nowait":
		return h.resend(o)
	case "unlock":
		return h.unlock(o)
	case "resolve", "reject":
		return h.answer(o)
	case "extend":
		return h.extend(o)
	case "renew":
		return h.renew(o)
	case "status":
		return h.status(o)
	case "hang up":
		if c := h.waiting(o); c != nil {
			h.hangUp(c)
		}
	case "end session":
		h.endSession()
	case "leave":
		return h.leave(o, 1+o.pick(1, 3))
	case "unclaimed":
		return h.leaveUnclaimed(o)
	case "look":
		return h.lookAfterClaim(o)
	case "later":
		h.later(o)
	case "seen":
		h.fromElsewhere(o)
	case "freeze":
		h.freeze(o)
	case "thaw":
		h.thaw(h.proxies[o.pick(0, len(h.proxies))])
	default:
		return h.meddle(o)
	}
	return nil
}

// pass lets time go by, and what Redis would forget in it be forgotten.
func (h *history) pass(ms int64) {
	h.st.now += ms
	if h.rejected.until > 0 && h.st.now > h.rejected.until {
		h.rejected = rejection{}
		h.st.b.do("DEL", h.st.keys.failure)
		h.now = h.look()
	}
}

// later is a long time: kept places, or those of dead proxies, end.
func (h *history) later(o op) {
	if h.now.st == "p" && h.now.owner == h.now.tok {
		h.expire()
	}
	h.pass([]int64{1900, 2500, 31_000}[o.pick(0, 3)])
}

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
	c.session = o.pick(1, 4) == 0
	c.own = o.pick(2, 3) > 0
	if c.own {
		h.tokens = append(h.tokens, c.token)
	}
	return h.ask(c, true, o.pick(3, 8) == 0)
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
	c.own, c.session = true, o.pick(3, 4) == 0
	for _, old := range h.calls {
		if old.token == token {
			c.memo = old.memo
		}
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
	if verdict == "value" || verdict == "rejected" {
		text += " " + list[1].(string)
	}
	h.now = h.look()
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
	case !again && n <= c.proxy.seen:
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
		if !c.proxy.frozen {
			some = append(some, c)
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
	reply, err := h.st.run(releaseScript, h.st.keys.ofLine(), instance, token)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", token, err)
	}
	said := reply.([]any)[0] == int64(1)
	h.now = h.look()
	h.note("unlock %s at %s: %v   %v", token, instance, said, h.now)
	m := move{by: instance, ends: said}
	if said != (token != "" && before.owner == token) {
		return fmt.Errorf("the lock is %q's, and unlocking it with %q was answered %v", before.owner, token, said)
	}
	if err := h.judge(before, m, !said); err != nil {
		return err
	}
	h.ended(token, said)
	return nil
}

// ended: the hold of token ended, or not.
func (h *history) ended(token string, yes bool) {
	if !yes {
		return
	}
	if h.holder != nil && h.holder.token == token {
		h.holder = nil
	}
	for _, c := range h.calls { // it was handed to him, and he has not asked yet
		c.steady = c.steady && c.token != token
	}
}

// answer resolves or rejects.
func (h *history) answer(o op) error {
	p := h.acting(o, 0)
	if p == nil {
		return nil
	}
	token, text := h.someToken(o), fmt.Sprintf("%s%d", o.what, h.tick)
	args := []string{p.instance, token, text}
	if o.pick(3, 2) == 0 {
		args = append(args, "20000")
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
	h.now = h.look()
	h.note("%s %v: %v   %v", o.what, args, said, h.now)
	promise := token != "" && before.owner == token && (before.tok != token || !strings.HasPrefix(before.att, "l:"))
	if h.holder != nil && h.holder.token == token && !h.unrecorded {
		promise = h.holder.memo
	}
	if said != promise {
		return fmt.Errorf("%s holds the promise: %v, and was answered %v", token, promise, said)
	}
	m := move{by: p.instance, ends: said, struck: said, excused: strings.HasPrefix(before.att, "m:")}
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
		h.rejected = rejection{}
		if !h.now.hasValue || h.now.value != text {
			return fmt.Errorf("%s is not stored", text)
		}
		return nil
	}
	h.rejected = rejection{message: text, tick: h.tick, until: h.st.now + rejectOnce, all: len(args) > 3}
	if h.rejected.all {
		h.rejected.until = h.st.now + 20_000
	}
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
	h.now = h.look()
	h.note("extend %s %d: %v, from %d to %d", token, lease, said, before.left, h.now.left)
	handed := before.tok == token && before.st != "h"
	if said != (token != "" && before.owner == token && !handed) {
		return fmt.Errorf("the lock is %q's, and extending it with %q was answered %v", before.owner, token, said)
	}
	if said && (h.holder == nil || h.unrecorded || !h.holder.session) {
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
	lease := []int64{8_000, 30_000}[o.pick(1, 2)]
	before := h.look()
	reply, err := h.st.run(renewScript, h.st.keys.ofLine(), c.instance, c.token, c.seq, lease)
	if err != nil {
		return err
	}
	h.now = h.look()
	h.note("renew %v: %v, from %d to %d", c, reply, before.left, h.now.left)
	want := renewed
	switch {
	case before.owner != c.token:
		want = renewLost
	case h.holder == c || h.unrecorded:
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
	want := []any{int64(asFlag(now.owner != "")), got[1], got[2], fmt.Sprint(now.n), int64(len(now.line)), int64(asFlag(now.hasValue)),
		int64(asFlag(strings.HasPrefix(now.failure, "m")))}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%v instead of %v", got, want)
	}
	return h.judge(h.now, move{onlyReads: true}, false)
}

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
	h.over = slices.DeleteFunc(h.over, func(d *departing) bool { return slices.Contains(who, d) })
	return h.leaves(first.instance, who, true)
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
	gone := func(c *played) bool { return c.instance == old }
	h.calls = slices.DeleteFunc(h.calls, gone)
	h.over = slices.DeleteFunc(h.over, func(d *departing) bool { return gone(d.played) })
}

func (h *history) thaw(p *proxyState) {
	if p.cut {
		h.st.live(p.instance)
	}
	if p.cut || p.frozen {
		h.note("%s thaws", p.instance)
	}
	p.frozen, p.cut = false, false
}

// check: whoever holds, holds in Redis.
func (h *history) check() error {
	if h.holder != nil && h.now.owner != h.holder.token {
		return fmt.Errorf("%v holds, but the lock is %q's", h.holder, h.now.owner)
	}
	return nil
}

// drain thaws everyone and lets all who wait have their turn, and in the end a newcomer.
func (h *history) drain() error {
	for _, p := range h.proxies {
		h.thaw(p)
	}
	h.note("drain")
	for len(h.over) > 0 {
		h.tick++
		if err := h.act(op{what: "leave"}); err != nil {
			return err
		}
		if err := h.check(); err != nil {
			return err
		}
	}
	for range len(h.calls) + 20 {
		if err := h.turns(); err != nil {
			return err
		}
	}
	if len(h.calls) > 0 {
		return fmt.Errorf("stuck: %v", h.calls)
	}
	for range 3 { // those whose proxy is dead, and kept places, go
		h.pass(31_000)
		h.expireForeign()
		c := h.attempt(h.proxies[0], "", false)
		if err := h.ask(c, true, false); err != nil {
			return err
		}
		if err := h.turns(); err != nil {
			return err
		}
	}
	if h.holder != nil || len(h.calls) > 0 {
		return fmt.Errorf("stuck: %v, %v", h.holder, h.calls)
	}
	h.expireForeign()
	if h.halved { // a place that is in no line ends with the hash, a minute later
		h.st.b.do("DEL", h.st.keys.waiting)
	}
	if v := h.look(); v.owner != "" || len(v.line) > 0 || len(v.places) > 0 || v.tok != "" || v.att != "" || v.st != "" {
		return fmt.Errorf("left over: %v", v)
	}
	return nil
}

// turns lets everyone who waits ask once, and whoever holds unlock.
func (h *history) turns() error {
	for _, c := range slices.Clone(h.calls) {
		if c.waits {
			if err := h.ask(c, false, false); err != nil {
				return err
			}
		}
		if h.holder != nil {
			if err := h.release(h.holder.instance, h.holder.token); err != nil {
				return err
			}
		}
	}
	if h.holder != nil {
		if err := h.release(h.holder.instance, h.holder.token); err != nil {
			return err
		}
	}
	h.expireForeign()
	return h.check()
}

// expireForeign ends what no call of ours will: strangers' locks, and what was handed to a call that is over.
func (h *history) expireForeign() {
	if h.now.owner == "" || h.holder != nil {
		return
	}
	for _, c := range h.calls {
		if c.token == h.now.owner {
			return
		}
	}
	h.expire()
}

func TestHistories(t *testing.T) {
	b := onRedis(t)
	played, counts := 0, map[string]int{}
	first, end := *historySeed, time.Now().Add(*historyTime)
	if *historyTime > 0 && first == 0 {
		first = uint64(time.Now().Unix()) << 20
	}
	t.Logf("the first seed is %d", first)
	for seed := first; played < *histories || time.Now().Before(end); seed++ {
		if h, err := playOps(b, nil, newOps(seed, historySteps)); err != nil {
			t.Fatal(shrunk(b, seed, h, err))
		} else {
			for what, n := range h.counts {
				counts[what] += n
			}
		}
		played++
	}
	t.Logf("%d histories of %d steps: %v", played, historySteps, counts)
}

// shrunk leaves out of a history that failed what it fails without, and tells the rest.
func shrunk(b *backend, seed uint64, h *history, err error) string {
	ops, enough := newOps(seed, historySteps), time.Now().Add(20*time.Second)
	steps := len(ops)
	if other, again := playOps(b, nil, ops); again == nil {
		return fmt.Sprintf("seed %d: %v, but not a second time\n%s", seed, err, strings.Join(h.log, "\n"))
	} else {
		h, err = other, again
	}
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(ops) && time.Now().Before(enough); {
			fewer := slices.Concat(ops[:at], ops[at+size:])
			if other, again := playOps(b, nil, fewer); again != nil {
				ops, h, err = fewer, other, again
			} else {
				at += size
			}
		}
	}
	return fmt.Sprintf("seed %d, %d of %d steps are enough: %v\n%s", seed, len(ops), steps, err, strings.Join(h.log, "\n"))
}
