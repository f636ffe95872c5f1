package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	histories   = flag.Int("histories", 40, "random histories that TestHistories plays")
	historySeed = flag.Uint64("history.seed", 0, "seed of the first of them; the others follow")
	historyTime = flag.Duration("history.time", 0, "play histories of fresh seeds for that long instead")
)

// historySteps is how long a history is, before everyone has his turn.
const historySteps = 200

// A history is random calls of three proxies, of strangers and of other libraries, played against the
// scripts with a clock of its own, on one name. What must hold is looked after twice. Here, by what callers
// are told: one holder at a time, rising fences, the order of arrival among those whose proxy was there all
// the time, a value or a rejection for those it is for, nobody stuck, nothing left over. And in
// history_rules_test.go, script by script, by what Redis holds before and after. KS.WAIT is in history_waits_test.go, KS.GUARD in
// history_guard_test.go, and KS.MLOCK, for which there are several names, in history_mlock_test.go.
type history struct {
	*record
	st   *stage
	now  view     // what Redis holds
	told []string // whom the last script told what

	proxies    []*proxyState
	came       map[string]int // tick at which a token got into the line
	tick       int
	calls      []*played    // told to wait
	over       []*departing // ended, and Redis does not know yet
	kept       []*played    // whose place was to be kept for a while
	observers  []*observing
	hold       int       // counts owners
	sessions   []*played // granted for as long as a connection lasts, and what became of it
	holder     *played
	fence      int64
	tokens     []string // of callers who may send them again
	rejected   rejection
	ends       map[string]int // attempts whose hold was ended elsewhere, and what a renewal of it answers
	valueUntil int64          // ms; 0: none that ends by itself
	stale      staleCopy

	unrecorded bool             // the fence was lost: nobody knows whose the hold is
	halved     bool             // a stranger deleted the queue, and left the hash
	mixed      bool             // strangers took part: no order of arrival
	unheard    string           // has had a fence for a while, and does not know
	revoked    map[string]bool  // tokens whose promise was, and which were not granted again
	burnt      map[string]int64 // instances that did not claim, and have not asked since: when
	net        *keySmith
}

// record is what happened, and how often.
type record struct {
	log    []string
	counts map[string]int
	seq    int // of attempts
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
	keep bool // the place, for a while
	over bool // it was kept long enough
}

// rejection is the last one, if it still answers anyone.
type rejection struct {
	message string
	tick    int
	until   int64 // ms; 0: none
	all     bool
	unsure  bool // fences began anew after it
}

// mix says how often what happens.
type mix []struct {
	what   string
	weight int
}

var (
	commonMix = mix{
		{"again", 25},
		{"unlock", 10},
		{"hang up", 8},
		{"leave", 8},
		{"leave for good", 3},
		{"expire", 5},
		{"resend", 7},
		{"nowait", 3},
		{"freeze", 4},
		{"thaw", 6},
		{"extend", 4},
		{"renew", 8},
		{"end session", 3},
		{"unclaimed", 2},
		{"look", 2},
		{"later", 3},
		{"status", 1},
		{"seen", 3},
		{"wait", 8},
		{"guard", 5},
	}
	locksMix = append(mix{{"lock", 22}, {"unlock", 4}}, commonMix...)
	memoMix  = append(mix{
		{"lock", 10}, {"memo", 40}, {"again", 20}, {"resolve", 12}, {"reject", 14}, {"forget", 8}, {"value gone", 16}, {"value set", 2}, {"error gone", 2},
	}, commonMix...)
	meddleMix = append(mix{
		{"del queue", 2}, {"del places", 2}, {"del fence", 2}, {"del line", 2}, {"flush", 2}, {"stray", 1},
	}, memoMix...)
	foreignMix = append(mix{
		{"net ask", 12}, {"net release", 10}, {"net listens", 3}, {"net forgets", 2}, {"ml lock", 6}, {"ml value", 4}, {"wait", 10},
	}, memoMix...)
	// values that are made, run out and are made again, with little in between
	staleMix = mix{
		{"memo", 50},
		{"resolve", 30},
		{"ttl ends", 16},
		{"again", 10},
		{"nowait", 3},
		{"value gone", 3},
		{"value set", 1},
		{"lock", 3},
		{"unlock", 6},
		{"reject", 4},
		{"forget", 2},
		{"expire", 3},
		{"leave", 4},
		{"freeze", 1},
		{"thaw", 3},
	}
	mixes = []mix{locksMix, memoMix, meddleMix, foreignMix, staleMix, jointMix}
)

// isJoint: the history of a seed is one of several names.
func isJoint(seed uint64) bool { return seed%uint64(len(mixes)) == uint64(len(mixes)-1) }

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

// playOps plays steps of the history of a seed on an empty Redis. Its error is what must not be.
func playOps(b *backend, broken map[*script]*script, seed uint64, ops []op) (*record, error) {
	if isJoint(seed) {
		j := newJoint(b, broken)
		return j.record, j.play(ops)
	}
	h := newHistory(b, broken, "x:n")
	return h.record, h.play(ops)
}

func newHistory(b *backend, broken map[*script]*script, name string) *history {
	b.do("FLUSHALL")
	st := newStageOn(b.t, b, name)
	st.broken = broken
	var proxies []*proxyState
	for _, name := range []string{"A", "B", "C"} {
		proxies = append(proxies, &proxyState{instance: name})
		st.live(name)
	}
	return historyOn(st, &record{counts: map[string]int{}}, proxies)
}

func historyOn(st *stage, r *record, proxies []*proxyState) *history {
	h := &history{record: r, st: st, proxies: proxies, revoked: map[string]bool{}, burnt: map[string]int64{}, came: map[string]int{}}
	h.net = &keySmith{st: st}
	h.now = h.look()
	return h
}

func (h *history) play(ops []op) error {
	defer h.st.close()
	for _, o := range ops {
		if err := h.step(o); err != nil {
			return err
		}
	}
	return h.drain()
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%d %s ", h.st.now, h.st.name)+fmt.Sprintf(format, args...))
}

func (h *history) step(o op) error {
	h.tick++
	h.pass(1 + int64(o.pick(4, 200)))
	h.counts[o.what]++
	if err := h.act(o); err != nil {
		return fmt.Errorf("%s: %w", o.what, err)
	}
	if err := h.bells(); err != nil {
		return fmt.Errorf("after %s: %w", o.what, err)
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
	case "forget":
		return h.forgetValue(o)
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
	case "wait":
		return h.wait(o)
	case "guard":
		return h.guard(o)
	case "leave":
		return h.leave(o, 1+o.pick(1, 3))
	case "leave for good":
		return h.leaveForGood(o)
	case "unclaimed":
		return h.leaveUnclaimed(o)
	case "look":
		return h.lookAfterClaim(o)
	case "later":
		h.later(o)
	case "ttl ends":
		if h.valueUntil > 0 {
			h.pass(h.valueUntil + 2 - h.st.now)
		}
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
	ms = h.passEndOfTTL(ms)
	h.st.now += ms
	if h.stale.value != "" && h.st.now > h.stale.until {
		h.stale = staleCopy{}
		h.st.b.do("DEL", h.st.keys.stale)
		h.now = h.look()
	}
	if h.valueUntil > 0 && h.st.now > h.valueUntil {
		h.valueUntil = 0
		h.st.b.do("DEL", h.st.keys.value)
		h.saw(h.look())
	}
	if h.rejected.until > 0 && h.st.now > h.rejected.until {
		h.rejected = rejection{}
		h.st.b.do("DEL", h.st.keys.failure)
		h.saw(h.look())
	}
}

// later is a long time: kept places, or those of dead proxies, end.
func (h *history) later(o op) {
	if h.now.st == "p" && h.now.owner == h.now.tok {
		h.expire()
	}
	h.pass([]int64{1900, 2500, 31_000}[o.pick(0, 3)])
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
	h.net.stop()
	h.note("drain")
	for len(h.over) > 0 {
		h.tick++
		if err := h.act(op{what: "leave", dice: [5]uint32{2: 1}}); err != nil {
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
	for range 3 + h.now.repeated() { // those whose proxy is dead, and kept places, go
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
	if h.holder != nil || len(h.calls) > 0 || len(h.observers) > 0 {
		return fmt.Errorf("stuck: %v, %v, %v", h.holder, h.calls, h.observers)
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
	if err := h.bells(); err != nil {
		return err
	}
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
		began := time.Now()
		h, err := playOps(b, nil, seed, newOps(seed, historySteps))
		if err != nil && time.Since(began) > time.Second {
			t.Logf("seed %d is played again, Redis's own clock was in it: %v", seed, err)
			h, err = playOps(b, nil, seed, newOps(seed, historySteps))
		}
		if err != nil {
			t.Fatal(shrunk(b, seed, h, err))
		}
		for what, n := range h.counts {
			counts[what] += n
		}
		played++
	}
	t.Logf("%d histories of %d steps: %v", played, historySteps, counts)
}

// shrunk leaves out of a history that failed what it fails without, and tells the rest.
func shrunk(b *backend, seed uint64, h *record, err error) string {
	ops, enough := newOps(seed, historySteps), time.Now().Add(20*time.Second)
	steps := len(ops)
	if other, again := playOps(b, nil, seed, ops); again == nil {
		return fmt.Sprintf("seed %d: %v, but not a second time\n%s", seed, err, strings.Join(h.log, "\n"))
	} else {
		h, err = other, again
	}
	for size := len(ops) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(ops) && time.Now().Before(enough); {
			fewer := slices.Concat(ops[:at], ops[at+size:])
			if other, again := playOps(b, nil, seed, fewer); again != nil {
				ops, h, err = fewer, other, again
			} else {
				at += size
			}
		}
	}
	return fmt.Sprintf("seed %d, %d of %d steps are enough: %v\n%s", seed, len(ops), steps, err, strings.Join(h.log, "\n"))
}
