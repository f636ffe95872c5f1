package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var histories = flag.Int("histories", 60, "random histories that TestHistories plays")

// history plays random calls of three proxies against the scripts, and knows what must hold: one holder
// at a time, rising fences, the order of arrival among those whose proxy was there all the time, nobody
// stuck, nothing left over.
type history struct {
	st  *stage
	rng *rand.Rand
	log []string

	proxies map[string]*proxyState
	seq     int
	arrived int
	calls   []*played
	leaves  []*played // over, and not yet told to Redis
	holder  *played
	fence   int64
}

type proxyState struct{ frozen, dead bool }

func (p *proxyState) acts() bool { return !p.frozen && !p.dead }

// played is one attempt.
type played struct {
	token, proxy string
	seq          int
	arrived      int
	waits        bool
	steady       bool // its proxy was there since it came, and it claimed what it was handed
}

func (p *played) String() string { return fmt.Sprintf("%s@%s:%d", p.token, p.proxy, p.seq) }

func playHistory(st *stage, seed uint64, steps int) (*history, error) {
	h := &history{st: st, rng: rand.New(rand.NewPCG(seed, 1)), proxies: map[string]*proxyState{}}
	for _, name := range []string{"A", "B", "C"} {
		h.proxies[name] = &proxyState{}
		st.live(name)
	}
	for range steps {
		if err := h.step(); err != nil {
			return h, err
		}
		if err := h.check(); err != nil {
			return h, err
		}
	}
	return h, h.drain()
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) step() error {
	h.st.now += int64(h.rng.IntN(200))
	switch n := h.rng.IntN(100); {
	case n < 25:
		return h.arrive("", h.rng.IntN(5) == 0)
	case n < 50:
		return h.again()
	case n < 65:
		return h.unlock()
	case n < 73:
		return h.hangUp()
	case n < 80:
		return h.leave()
	case n < 86:
		return h.expire()
	case n < 91:
		return h.resend()
	case n < 95:
		h.freeze()
	default:
		h.thaw()
	}
	return nil
}

// proxy picks one that acts.
func (h *history) proxy() string {
	var names []string
	for _, name := range []string{"A", "B", "C"} {
		if h.proxies[name].acts() {
			names = append(names, name)
		}
	}
	if names == nil {
		return ""
	}
	return names[h.rng.IntN(len(names))]
}

// arrive is a new call; with a token, one that is sent again.
func (h *history) arrive(token string, nowait bool) error {
	proxy := h.proxy()
	if proxy == "" {
		return nil
	}
	h.seq++
	h.arrived++
	c := &played{token: token, proxy: proxy, seq: h.seq, arrived: h.arrived, steady: true}
	if token == "" {
		c.token = fmt.Sprintf("t%d", h.seq)
	}
	for _, old := range slices.Concat(h.calls, h.leaves) { // it takes the place of the older, if that has it yet
		if old.token == c.token {
			c.arrived, c.steady, old.steady = min(c.arrived, old.arrived), false, false
		}
	}
	return h.ask(c, true, nowait)
}

func (h *history) ask(c *played, first, nowait bool) error {
	args := []string{c.token, fmt.Sprintf("%s:%d", c.proxy, c.seq)}
	if !first {
		args = append(args, "again")
	}
	if nowait {
		args = append(args, "nowait")
	}
	place := h.place(c.token)
	reply, err := h.st.ask(args)
	if err != nil {
		return err
	}
	verdict := reply.([]any)[0]
	if place != "" && place != c.place() && !first && verdict != "gone" {
		return fmt.Errorf("%v was answered %v though the place is %s's", c, verdict, place)
	}
	h.note("%d ask %v first=%v nowait=%v: %v", h.st.now, c, first, nowait, verdict)
	switch verdict {
	case "granted":
		return h.granted(c, reply.([]any)[1].(string))
	case "gone", "no":
		h.forget(c)
	case "wait":
		if !c.waits {
			c.waits = true
			h.calls = append(h.calls, c)
		}
	}
	return nil
}

// place is the attempt that has token's place in line.
func (h *history) place(token string) string {
	entry, _ := h.st.b.do("HGET", h.st.keys.waiting, token).(string)
	id, _, _ := strings.Cut(entry, "|")
	return id
}

func (p *played) place() string { return fmt.Sprintf("l:%s:%d", p.proxy, p.seq) }

func (h *history) granted(c *played, fence string) error {
	var n int64
	if _, err := fmt.Sscan(fence, &n); err != nil {
		return err
	}
	h.forget(c)
	switch {
	case h.holder != nil && h.holder.token != c.token:
		return fmt.Errorf("%v was granted while %v holds", c, h.holder)
	case h.holder != nil && n != h.fence:
		return fmt.Errorf("%v holds with fence %d and was told %d", c, h.fence, n)
	case h.holder == nil && n <= h.fence:
		return fmt.Errorf("%v was granted fence %d after %d", c, n, h.fence)
	}
	if h.holder == nil {
		for _, other := range h.calls {
			if other.steady && other.arrived < c.arrived && other.token != c.token {
				return fmt.Errorf("%v overtook %v", c, other)
			}
		}
	}
	h.holder, h.fence = c, n
	return nil
}

func (h *history) forget(c *played) {
	c.waits = false
	h.calls = slices.DeleteFunc(h.calls, func(o *played) bool { return o == c })
}

// waiting picks a call of a proxy that acts.
func (h *history) waiting() *played {
	var some []*played
	for _, c := range h.calls {
		if h.proxies[c.proxy].acts() {
			some = append(some, c)
		}
	}
	if some == nil {
		return nil
	}
	return some[h.rng.IntN(len(some))]
}

func (h *history) again() error {
	if c := h.waiting(); c != nil {
		return h.ask(c, false, false)
	}
	return nil
}

func (h *history) unlock() error {
	proxy := h.proxy()
	if h.holder == nil || proxy == "" {
		return nil
	}
	reply, err := h.st.run(h.st.release, h.st.keys.ofLine(), proxy, h.holder.token)
	if err != nil {
		return err
	}
	h.note("unlock %v: %v", h.holder, reply.([]any)[0])
	if reply.([]any)[0] != int64(1) {
		return fmt.Errorf("%v could not unlock what it holds", h.holder)
	}
	h.holder = nil
	return nil
}

// hangUp ends a call; its leave comes later.
func (h *history) hangUp() error {
	if c := h.waiting(); c != nil {
		h.note("hang up %v", c)
		h.forget(c)
		h.leaves = append(h.leaves, c)
	}
	return nil
}

func (h *history) leave() error {
	for i, c := range h.leaves {
		if h.proxies[c.proxy].acts() {
			h.leaves = slices.Delete(h.leaves, i, i+1)
			place := h.place(c.token)
			reply, err := h.st.leave([]string{c.proxy, "all", fmt.Sprintf("%s:%d", c.token, c.seq)})
			h.note("leave %v: %v", c, reply)
			if err == nil && reply.([]any)[0] != int64(0) && place != c.place() && h.place(c.token) != place {
				return fmt.Errorf("%v left with the place of %s", c, place)
			}
			return err
		}
	}
	return nil
}

// resend sends a token again, by another attempt: of one who waits, hung up, or holds.
func (h *history) resend() error {
	some := slices.Concat(h.calls, h.leaves)
	if h.holder != nil {
		some = append(some, h.holder)
		if h.rng.IntN(3) == 0 { // the reply was lost, so its client hangs up and sends it again
			h.leaves = append(h.leaves, h.holder)
			if !h.proxies[h.holder.proxy].acts() || h.proxy() == "" {
				h.leaves = h.leaves[:len(h.leaves)-1]
				return nil
			}
			return h.arrive(h.holder.token, false)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return h.arrive(some[h.rng.IntN(len(some))].token, false)
}

// expire is the end of a lease, or of a claim window.
func (h *history) expire() error {
	owner, _ := h.st.b.do("GET", h.st.keys.lock).(string)
	if owner == "" {
		return nil
	}
	h.note("expire %s", owner)
	h.st.b.do("DEL", h.st.keys.lock)
	if h.holder == nil {
		h.suspect(owner)
	}
	h.holder = nil
	return nil
}

// suspect: the proxy that did not claim for owner is passed over until it asks again.
func (h *history) suspect(owner string) {
	all := slices.Concat(h.calls, h.leaves)
	for _, late := range all {
		for _, c := range all {
			if late.token == owner && c.proxy == late.proxy {
				c.steady = false
			}
		}
	}
}

func (h *history) freeze() {
	name := []string{"A", "B", "C"}[h.rng.IntN(3)]
	p := h.proxies[name]
	if !p.acts() {
		return
	}
	p.frozen = true
	if h.rng.IntN(2) == 0 {
		p.dead = true
		h.st.dead(name)
	}
	h.note("%s freezes, dead=%v", name, p.dead)
	for _, c := range h.calls {
		if c.proxy == name {
			c.steady = false
		}
	}
}

func (h *history) thaw() {
	name := []string{"A", "B", "C"}[h.rng.IntN(3)]
	p := h.proxies[name]
	if p.dead {
		h.st.live(name)
	}
	h.note("%s thaws", name)
	*p = proxyState{}
}

// check: whoever holds, holds in Redis.
func (h *history) check() error {
	owner, _ := h.st.b.do("GET", h.st.keys.lock).(string)
	if h.holder != nil && owner != h.holder.token {
		return fmt.Errorf("%v holds, but the lock is %q's", h.holder, owner)
	}
	return nil
}

// drain thaws everyone and lets all who wait have their turn.
func (h *history) drain() error {
	for name, p := range h.proxies {
		if p.dead {
			h.st.live(name)
		}
		*p = proxyState{}
	}
	for len(h.leaves) > 0 {
		if err := h.leave(); err != nil {
			return err
		}
		if err := h.check(); err != nil {
			return err
		}
	}
	for range 50 {
		for _, c := range slices.Clone(h.calls) {
			if !c.waits {
				continue
			}
			if err := h.ask(c, false, false); err != nil {
				return err
			}
			if err := h.unlock(); err != nil {
				return err
			}
		}
		if len(h.calls) == 0 {
			break
		}
		if h.rng.IntN(4) == 0 {
			if err := h.expire(); err != nil {
				return err
			}
		}
	}
	if len(h.calls) > 0 {
		return fmt.Errorf("stuck: %v", h.calls)
	}
	if err := h.unlock(); err != nil {
		return err
	}
	for _, key := range []string{h.st.keys.lock, h.st.keys.queue, h.st.keys.waiting} {
		if h.st.b.do("EXISTS", key) != int64(0) {
			return fmt.Errorf("%s is left over: %s", key, h.st.state())
		}
	}
	return nil
}

func TestHistories(t *testing.T) {
	b := onRedis(t)
	grants := 0
	for seed := range *histories {
		b.do("FLUSHALL")
		st := newStage(t, b)
		h, err := playHistory(st, uint64(seed), 150)
		st.close()
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(h.log, "\n"))
		}
		grants += strings.Count(strings.Join(h.log, "\n"), ": granted")
	}
	t.Logf("%d histories, %d grants", *histories, grants)
}

// TestHistoriesCatchBrokenScripts shows that the histories would notice.
func TestHistoriesCatchBrokenScripts(t *testing.T) {
	b := onRedis(t)
	for _, broken := range []struct{ name, old, new string }{
		{"a leave that ignores the attempt", "s.by.attempt == attempt", "true"},
		{"a leave that ignores whose place it is", "p.attempt == attempt and not p.kept and", "not p.kept and"},
		{"re-asks that take over", "if a.elder and not a.first then", "if false then"},
		{"newcomers that barge in", "if not owner or owner.token == a.token then return take", "if true then return take"},
		{"claims without a new fence", "if s.tok ~= a.token or s.st ~= 'h' then fence", "if false then fence"},
		{"fences that are the clock's alone", "math.max(s.n + 1, s.us", "math.min(1, s.us"},
		{"late comers at the front", "call('RPUSH', QUEUE, a.token)", "call('LPUSH', QUEUE, a.token)"},
		{"a hold that is handed on without asking who owns it", "if s.owner ~= ARGV[7] then return { 0, rings } end", "if s.owner then return { 0, rings } end"},
		{"leaves that forget the list", "      call('LREM', QUEUE, 1, token)", ""},
	} {
		t.Run(strings.ReplaceAll(broken.name, " ", "_"), func(t *testing.T) {
			breakIt := func(s *script) *script {
				return newScript(s.name, strings.ReplaceAll(s.source, broken.old, broken.new))
			}
			for seed := range 100 {
				b.do("FLUSHALL")
				st := newStage(t, b)
				st.askLock, st.release, st.leaving = breakIt(st.askLock), breakIt(st.release), breakIt(st.leaving)
				_, err := playHistory(st, uint64(seed), 150)
				st.close()
				if err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("nothing was noticed")
		})
	}
}
