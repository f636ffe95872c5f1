package integration

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// pair runs scenarios on both sides in lock-step and compares.
type pair struct {
	direct, proxied *side
	// probe is a connection through the proxy that is no part of any scenario:
	// an answer on it means that the proxy has had its turn since.
	probe *harness.Conn
	// patience bounds the wait for the proxied side to show what the direct
	// side has shown.
	patience time.Duration
	allowed  *allowances

	// kept is what each connection has received through the proxy in the
	// scenario that ran last.
	kept map[string][]byte
}

// mismatch is a difference that nobody allowed.
type mismatch struct {
	at             int // index of the step
	conn           string
	direct, behind []byte // compared form of what was received
	directEnd, end harness.End
	reason         string
}

func (m *mismatch) String() string {
	same := commonPrefix(m.direct, m.behind)
	from := max(0, same-200)
	return fmt.Sprintf("%s on connection %s at step %d, after %d equal bytes\n"+
		"both:    …%q\ndirect:  %s then %v\nproxied: %s then %v",
		m.reason, m.conn, m.at, same, m.direct[from:same],
		abridged(string(m.direct[same:])), m.directEnd, abridged(string(m.behind[same:])), m.end)
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// run plays sc on both sides and returns the first difference, or nil.
func (p *pair) run(t testing.TB, sc scenario) *mismatch {
	t.Helper()
	for _, s := range []*side{p.direct, p.proxied} {
		s.begin(t, sc)
		defer s.end(t, sc)
	}
	found := p.play(t, sc)
	p.keep()
	return found
}

func (p *pair) play(t testing.TB, sc scenario) *mismatch {
	t.Helper()
	fold := p.allowed.forScenario(sc)
	for i, st := range sc.steps {
		if !p.step(t, st) {
			continue
		}
		names := p.direct.order
		if st.op == opReply { // Redis is busy, and the others will have their replies after that
			names = []string{st.conn}
		}
		if m := p.compare(t, sc, fold, names); m != nil {
			m.at = i
			return m
		}
	}
	return p.finish(t, sc, fold)
}

func (p *pair) keep() {
	p.kept = map[string][]byte{}
	for name, c := range p.proxied.conns {
		p.kept[name], _ = c.Received()
	}
}

// finish half-closes what is still open: only when both sides have ended the
// connection has all arrived that would have.
func (p *pair) finish(t testing.TB, sc scenario, fold folding) *mismatch {
	t.Helper()
	for _, name := range p.direct.order {
		if !p.step(t, halfClose(name)) {
			continue
		}
		p.direct.conns[name].AwaitEnd(t)
		if m := p.compare(t, sc, fold, p.direct.order); m != nil {
			m.at = len(sc.steps)
			return m
		}
	}
	return nil
}

// step does st on both sides. It reports false when there is nothing to do,
// for the connection has ended.
func (p *pair) step(t testing.TB, st step) bool {
	t.Helper()
	if st.conn != "" {
		c := p.direct.open(t, st.conn)
		if _, end := c.Received(); end != harness.Open || c.gone {
			return false
		}
		p.proxied.open(t, st.conn)
	}
	switch st.op {
	case opSend:
		p.send(t, st)
	case opLast:
		p.sendLast(t, st)
	case opFire:
		p.direct.write(t, p.direct.conns[st.conn], st.data)
		p.proxied.write(t, p.proxied.conns[st.conn], st.data)
	case opReply:
		p.sendForReply(t, st)
	case opEnd:
		p.direct.conns[st.conn].AwaitEnd(t)
	case opHalfClose:
		p.halfClose(t, st.conn)
	case opReset:
		p.reset(t, st.conn)
	case opAdmin:
		p.direct.runLine(t, st.data)
		p.direct.settle(t)
		p.proxied.runLine(t, st.data)
	case opBusy:
		p.untilBusy(t, true)
	case opIdle:
		p.untilBusy(t, false)
	}
	return true
}

// send writes the pieces of st, on the direct side each after the one before
// was answered.
func (p *pair) send(t testing.TB, st step) {
	t.Helper()
	c := p.direct.conns[st.conn]
	written := p.sendDirect(t, st, c)
	_, end := c.Received()

	b := p.proxied.conns[st.conn]
	input := p.proxied.netInput(t)
	pieces := cutAgain(p.proxied.expand(t, st.data), st)
	sent := 0
	for i, piece := range pieces[:written] {
		if i > 0 {
			p.giveTurn(t)
		}
		p.proxied.write(t, b, piece)
		sent += len(piece)
	}
	if end == harness.Open && written == len(pieces) {
		p.awaitPassedOn(t, b, st, input+int64(sent))
	}
}

// awaitPassedOn waits until Redis has got what was sent on b, input bytes in all.
// There are two reasons why it may not: the beginning of a request is held back
// until the name is known; and while a KS command has not been answered, nothing
// behind it is passed on. The latter cannot be seen, for the command may be
// silenced. Then b only gets its turn.
func (p *pair) awaitPassedOn(t testing.TB, b *client, st step, input int64) {
	t.Helper()
	const held = 96 // more than a header, a bulk header and the longest name of ours
	b.ksSent = b.ksSent || strings.Contains(strings.ToUpper(st.data), "KS.")
	for range 20 {
		// More than was sent: the proxy said something on its own behalf.
		missing := input - p.proxied.netInput(t)
		if _, end := b.Received(); missing == 0 || end != harness.Open {
			return
		}
		p.giveTurn(t)
	}
	if b.ksSent {
		return
	}
	p.proxied.awaitInput(t, input-held, b)
}

// giveTurn lets the proxy have its turn.
func (p *pair) giveTurn(t testing.TB) {
	t.Helper()
	p.probe.Do(t, "PING")
	p.proxied.testSent += int64(len(harness.Command("PING")))
}

// sendDirect returns how many pieces were written before the end of the connection.
func (p *pair) sendDirect(t testing.TB, st step, c *client) int {
	t.Helper()
	pieces := cutAgain(p.direct.expand(t, st.data), st)
	for i, piece := range pieces {
		input := p.direct.netInput(t)
		p.direct.write(t, c, piece)
		p.direct.awaitInput(t, input+int64(len(piece)), c)
		switch {
		case st.until == "":
			p.direct.settle(t)
		case i == len(pieces)-1:
			p.awaitMarker(t, c, st.until)
		}
		if _, end := c.Received(); end != harness.Open {
			return i + 1
		}
	}
	return len(pieces)
}

// awaitMarker waits until marker has been received on the direct side.
func (p *pair) awaitMarker(t testing.TB, c *client, marker string) {
	t.Helper()
	if !c.Await(harness.Patience, func(b []byte, end harness.End) bool {
		return bytes.Contains(b, []byte(marker)) || end != harness.Open
	}) {
		t.Fatalf("Redis does not answer %q", marker)
	}
	p.direct.settle(t)
}

// cutAgain cuts data, which is st.data with ids filled in.
func cutAgain(data string, st step) []string {
	st.data = data
	return st.pieces()
}

// sendForReply writes st and waits for an answer on the direct side.
func (p *pair) sendForReply(t testing.TB, st step) {
	t.Helper()
	c := p.direct.conns[st.conn]
	before := received(c)
	p.direct.write(t, c, st.data)
	if !c.Await(harness.Patience, func(b []byte, end harness.End) bool { return len(b) > before }) {
		t.Fatalf("no reply to %q", st.data)
	}
	p.proxied.write(t, p.proxied.conns[st.conn], st.data)
}

// sendLast half-closes without waiting for a reply to what it sends.
func (p *pair) sendLast(t testing.TB, st step) {
	t.Helper()
	for _, s := range []*side{p.direct, p.proxied} {
		s.write(t, s.conns[st.conn], st.data)
		s.conns[st.conn].CloseWrite(t)
	}
	p.direct.conns[st.conn].AwaitEnd(t)
	p.direct.settle(t)
}

func (p *pair) halfClose(t testing.TB, conn string) {
	t.Helper()
	p.direct.conns[conn].CloseWrite(t)
	p.direct.conns[conn].AwaitEnd(t)
	p.direct.settle(t)
	p.proxied.conns[conn].CloseWrite(t)
}

// reset breaks the connection on both sides and waits until Redis knows.
func (p *pair) reset(t testing.TB, conn string) {
	t.Helper()
	for _, s := range []*side{p.direct, p.proxied} {
		n := s.clients(t)
		s.conns[conn].Reset(t)
		s.conns[conn].gone = true
		s.awaitClients(t, n-1)
	}
	p.direct.settle(t)
}

// untilBusy waits until Redis answers -BUSY, or no longer does.
func (p *pair) untilBusy(t testing.TB, busy bool) {
	t.Helper()
	for _, s := range []*side{p.direct, p.proxied} {
		await(t, "the script", func() bool { return busy == (s.run(t, "PING")[0] == '-') })
	}
}

// compare waits until each of the named connections has received through the proxy what it
// has received directly.
func (p *pair) compare(t testing.TB, sc scenario, fold folding, names []string) *mismatch {
	t.Helper()
	for _, name := range names {
		c, b := p.direct.conns[name], p.proxied.conns[name]
		if c.gone {
			continue
		}
		raw, wantEnd := c.Received()
		want := fold.direct(raw[c.skip:])
		p.awaitSame(sc, fold, b, want, wantEnd)
		got, end := b.Received()
		got = got[b.skip:]
		behind := fold.proxied(got)
		switch {
		case end == wantEnd && bytes.Equal(behind, want):
			p.allowed.count(raw[c.skip:], got, fold)
		case p.allowed.ending(sc, want, behind, wantEnd, end):
		default:
			reason := "different replies"
			if bytes.Equal(want, behind) {
				reason = "different ends"
			}
			return &mismatch{
				conn: name, direct: want, behind: behind,
				directEnd: wantEnd, end: end, reason: reason,
			}
		}
	}
	return nil
}

// awaitSame gives the proxy time to show the same replies and the same end on b.
func (p *pair) awaitSame(sc scenario, fold folding, b *client, want []byte, wantEnd harness.End) {
	same := func(got []byte) bool {
		got = got[b.skip:]
		return fold.ends(got, want) && bytes.Equal(fold.proxied(got), want)
	}
	if wantEnd == harness.Open || sc.closesSilently() {
		b.Await(p.patience, func(got []byte, end harness.End) bool { return end != harness.Open || same(got) })
	}
	if wantEnd == harness.Open {
		return
	}
	patience := p.patience
	if sc.closesSilently() {
		patience = min(patience, 500*time.Millisecond) // for it may well not come
	}
	b.Await(patience, func(_ []byte, end harness.End) bool { return end != harness.Open })
}

func received(c *client) int {
	b, _ := c.Received()
	return len(b)
}
