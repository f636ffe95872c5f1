package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// answered bounds how much longer than its WAIT a call may take: what breaks lasts up to 6 s, and
// holders and the line may be hit by several of these.
const answered = 30 * time.Second

// client takes locks again and again, in all ways there are, until its context ends.
type client struct {
	*round
	id     int
	random *rand.Rand
	conn   *harness.Conn // nil: none
	serial int
}

// want is one acquisition: a KS.LOCK, or a KS.MLOCK.
type want struct {
	names  []string
	token  string // of the caller's choice, else known with the grant
	lease  time.Duration
	wait   time.Duration // 0: as long as it takes
	nowait bool
	chosen bool
	fences []int64
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		if c.chance(10) {
			c.drop()
		}
		c.acquire(ctx)
		time.Sleep(c.upTo(15 * time.Millisecond)) // it thinks of something else
	}
	c.drop()
}

// upTo and chance (of one in n) are the client's moods.
func (c *client) upTo(most time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(most)))
}
func (c *client) chance(n int) bool { return c.random.IntN(n) == 0 }

// connect makes sure that there is a connection; false if there is none for now.
func (c *client) connect() bool {
	if c.conn != nil {
		if _, end := c.conn.Received(); end == harness.Open {
			return true
		}
		c.drop()
	}
	conn, err := harness.TryDial(c.proxy(c.random.IntN(proxies)))
	if err != nil {
		time.Sleep(5 * time.Millisecond) // before it tries another proxy
		return false
	}
	c.conn = conn
	return true
}

// drop ends the connection, with FIN or RST.
func (c *client) drop() {
	if c.conn == nil {
		return
	}
	if c.chance(2) {
		reset(c.conn)
	}
	c.conn.Close()
	c.conn = nil
}

func reset(c *harness.Conn) {
	if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// acquire is one lock's life, from the wish for it to its end.
func (c *client) acquire(ctx context.Context) {
	w := c.wish()
	if !c.ask(ctx, w) {
		return
	}
	c.grants.Add(int64(len(w.names)))
	c.work(w)
	switch {
	case w.lease == 0 && c.chance(3):
		c.count("SESSION holder hung up")
		c.drop()
	case w.lease > 0 && c.chance(40): // it dies
		c.count("holder left its lease")
		c.drop()
	default:
		c.release(w)
	}
}

func (c *client) wish() *want {
	w := &want{names: []string{c.names[c.random.IntN(len(c.names))]}, nowait: c.chance(10), chosen: !c.chance(3)}
	if c.chance(5) {
		w.names = slices.Clone(c.names)
		c.random.Shuffle(len(w.names), func(i, j int) { w.names[i], w.names[j] = w.names[j], w.names[i] })
		w.names = w.names[:2+c.random.IntN(min(2, len(w.names)-1))]
	}
	if !c.chance(3) {
		w.lease = 300*time.Millisecond + c.upTo(1700*time.Millisecond)
		w.lease = w.lease.Truncate(time.Millisecond)
	}
	if !w.nowait && !c.chance(10) {
		w.wait = (100*time.Millisecond + c.upTo(2*time.Second)).Truncate(time.Millisecond)
	}
	c.serial++
	w.token = fmt.Sprintf("r%d-c%d-%d", c.seed, c.id, c.serial)
	return w
}

func (w *want) command() []string {
	args := []string{"KS.LOCK", w.names[0]}
	if len(w.names) > 1 {
		args = append([]string{"KS.MLOCK", strconv.Itoa(len(w.names))}, w.names...)
	}
	if w.lease == 0 {
		args = append(args, "SESSION")
	} else {
		args = append(args, "PX", milliseconds(w.lease))
	}
	if w.nowait {
		args = append(args, "NOWAIT")
	} else if w.wait > 0 {
		args = append(args, "WAIT", milliseconds(w.wait))
	}
	if w.chosen {
		args = append(args, "TOKEN", w.token)
	}
	return args
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// ask wants it, again and again if it has a token of its own; true if it is granted and known to be.
func (c *client) ask(ctx context.Context, w *want) bool {
	for try := 0; try < 8; {
		if !c.connect() {
			if ctx.Err() != nil {
				return false
			}
			continue
		}
		conn, call := c.conn, c.now()
		if _, err := conn.Write([]byte(harness.Command(w.command()...))); err != nil {
			c.drop()
		}
		patience := w.wait + answered
		switch impatient := c.random.IntN(12); {
		case impatient == 0: // hangs up while it waits
			c.count("client hung up while it asked")
			time.Sleep(c.upTo(60 * time.Millisecond))
			c.drop()
			c.record(w, call, open, unknown)
			if !w.chosen || c.chance(2) {
				return false
			}
			try++
			continue
		case impatient < 4 && w.chosen && try < 7: // times out
			patience = 20*time.Millisecond + c.upTo(400*time.Millisecond)
		}
		reply, err := conn.ReplyWithin(patience)
		_, end := conn.Received()
		switch {
		case err == nil:
			return c.answer(w, call, reply)
		case end != harness.Open:
			c.record(w, call, open, unknown)
			c.drop()
			time.Sleep(c.upTo(20 * time.Millisecond)) // Redis may be away
		case patience >= answered:
			c.blame("client %d: %q was not answered for %v", c.id, w.command(), patience)
			c.drop()
			return false
		default:
			c.count("call timed out and was sent again")
			c.abandon(w, call, conn)
		}
		if !w.chosen || ctx.Err() != nil {
			return false
		}
		try++
	}
	return false
}

// abandon leaves a call to itself, on its connection: it is answered some time, or the connection is closed first.
func (c *client) abandon(w *want, call int64, conn *harness.Conn) {
	c.conn = nil
	if c.chance(2) || w.lease == 0 {
		conn.Close()
		c.record(w, call, open, unknown)
		return
	}
	old := *c
	late := *w
	c.late.Go(func() {
		defer conn.Close()
		reply, err := conn.ReplyWithin(w.wait + answered)
		_, end := conn.Received()
		switch {
		case err == nil:
			old.answer(&late, call, reply)
		case end == harness.Open:
			old.blame("client %d: %q, abandoned, was not answered for %v", old.id, late.command(), late.wait+answered)
		default:
			old.record(&late, call, open, unknown)
		}
	})
}

// answer records what a lock was answered; true: granted.
func (c *client) answer(w *want, call int64, reply string) bool {
	ret := c.now()
	c.waited(w.wait, time.Duration(ret-call))
	value, _, err := stage.ParseOne(reply)
	if words, refused := value.(stage.Refusal); refused {
		c.refused(string(words))
		c.record(w, call, open, unknown)
		return false
	}
	if value == nil && err == nil {
		c.record(w, call, ret, no)
		return false
	}
	list, _ := value.([]any)
	if len(list) != 1+len(w.names) {
		c.blame("client %d: %q answers %.200q", c.id, w.command(), reply)
		return false
	}
	token, _ := list[0].(string)
	if w.chosen && token != w.token {
		c.blame("client %d: %q was granted to %s", c.id, w.command(), token)
	}
	w.token, w.fences = token, nil
	for _, fence := range list[1:] {
		n, _ := fence.(int64)
		w.fences = append(w.fences, n)
	}
	c.record(w, call, ret, yes)
	return true
}

// refused complains about errors that nobody should see.
func (c *client) refused(words string) {
	first, _, _ := strings.Cut(words, " ")
	c.count("reply: " + first)
	switch first {
	case "KSUNAVAILABLE", "LOADING", "LOCKLOST":
	default:
		c.blame("client %d was told %q", c.id, words)
	}
}

func (c *client) record(w *want, call, ret int64, o outcome) {
	if o == unknown && !w.chosen {
		return // nobody will ever know more
	}
	for i, name := range w.names {
		one := op{kind: lock, name: name, token: w.token, client: c.id, call: call, ret: ret, lease: w.lease, outcome: o}
		if o == yes {
			one.fence = w.fences[i]
		}
		c.add(one)
	}
	c.calls.Add(1)
}

// work is what the holder does with the lock.
func (c *client) work(w *want) {
	late := w.lease > 0 && w.lease < 700*time.Millisecond && c.chance(6)
	switch {
	case late:
		c.count("holder slept past its lease")
		time.Sleep(w.lease + c.upTo(150*time.Millisecond))
	case c.chance(6):
		time.Sleep(c.upTo(100 * time.Millisecond))
	default:
		time.Sleep(c.upTo(5 * time.Millisecond))
	}
	i := c.random.IntN(len(w.names))
	if !late && c.guards && w.lease > 0 && w.lease < 700*time.Millisecond && c.chance(4) {
		c.holdUp(w, i)
		c.guarded(w, i)
		return
	}
	if !late && c.chance(4) {
		lease := (200*time.Millisecond + c.upTo(1500*time.Millisecond)).Truncate(time.Millisecond)
		o := op{kind: extend, name: w.names[i], token: w.token, lease: lease}
		if w.lease == 0 {
			o.lease = 0 // it stays as it is
		}
		c.one(o, "KS.EXTEND", w.names[i], w.token, "PX", milliseconds(lease))
	}
	if c.guards && (late || c.chance(2)) {
		c.guarded(w, i)
	}
}

// guarded writes the fence where only the holder can.
func (c *client) guarded(w *want, i int) {
	o := op{kind: write, name: w.names[i], token: w.token, fence: w.fences[i]}
	c.one(o, "KS.GUARD", w.names[i], w.token, "SET", register(w.names[i]), strconv.FormatInt(w.fences[i], 10), "GET")
}

// holdUp lets a guarded write get stuck between its look at the lock and the command, until past the lease.
func (c *client) holdUp(w *want, i int) {
	var o op
	info, _ := c.exchange(&o, []string{"CLIENT", "INFO"})
	for field := range strings.FieldsSeq(info) {
		addr, found := strings.CutPrefix(field, "addr=")
		if !found {
			continue
		}
		for _, relay := range c.Relays {
			if link := relay.Link(addr); link != nil {
				c.count("guarded write held up halfway")
				key := stage.KeyOf(w.names[i], "lock")
				link.LimitUp(len(harness.Command("WATCH", key) + harness.Command("GET", key) + harness.Command("MULTI")))
				time.AfterFunc(w.lease+c.upTo(300*time.Millisecond), link.Resume)
			}
		}
	}
}

// one sends a call about one lock and records it; true: its outcome is known. It waits for the answer
// unless the connection breaks.
func (c *client) one(o op, args ...string) bool {
	o.client = c.id
	reply, known := c.exchange(&o, args)
	if !known {
		if o.ret == open { // it may have been sent
			c.add(o)
		}
		return false
	}
	value, _, _ := stage.ParseOne(reply)
	switch v := value.(type) {
	case int64:
		o.outcome = no
		if v > 0 {
			o.outcome = yes
		}
	case stage.Refusal:
		c.refused(string(v))
		if o.ret = open; strings.HasPrefix(string(v), "LOCKLOST") {
			o.outcome, o.ret = no, c.now()
		}
	case nil:
		o.outcome = yes
	case string:
		o.outcome = yes
		o.old, _ = strconv.ParseInt(v, 10, 64)
	default:
		c.blame("client %d: %q answers %.200q", c.id, args, reply)
	}
	c.add(o)
	return o.outcome != unknown
}

// exchange sends a command that needs no waiting and fills in the times. Without a reply the return is open; it
// stays 0 if nothing was sent.
func (c *client) exchange(o *op, args []string) (string, bool) {
	if !c.connect() {
		return "", false
	}
	o.call, o.ret = c.now(), open
	c.calls.Add(1)
	if _, err := c.conn.Write([]byte(harness.Command(args...))); err != nil {
		c.drop()
		return "", false
	}
	reply, err := c.conn.ReplyWithin(answered)
	if err != nil {
		if _, end := c.conn.Received(); end == harness.Open {
			c.blame("client %d: %q was not answered for %v", c.id, args, answered)
		}
		c.drop()
		return "", false
	}
	o.ret = c.now()
	return reply, true
}

// release gives the locks back, on this connection or another, and asks again until it knows that they are.
func (c *client) release(w *want) {
	if w.lease > 0 && c.chance(5) {
		c.drop()
	}
	for range 50 {
		if len(w.names) > 1 && c.munlock(w) {
			return
		}
		if len(w.names) == 1 && c.one(op{kind: unlock, name: w.names[0], token: w.token}, "KS.UNLOCK", w.names[0], w.token) {
			return
		}
		time.Sleep(c.upTo(20 * time.Millisecond)) // until the next try
	}
}

func (c *client) munlock(w *want) bool {
	args := append([]string{"KS.MUNLOCK", strconv.Itoa(len(w.names))}, w.names...)
	var o op
	reply, known := c.exchange(&o, append(args, w.token))
	if o.ret == 0 {
		return false
	}
	value, _, _ := stage.ParseOne(reply)
	n, isNumber := value.(int64)
	if words, refused := value.(stage.Refusal); refused {
		c.refused(string(words))
		o.ret = open
	}
	for _, name := range w.names {
		one := op{kind: unlock, name: name, token: w.token, client: c.id, call: o.call, ret: o.ret}
		switch {
		case !isNumber: // it may have released some
		case n == int64(len(w.names)):
			one.outcome = yes
		case n == 0:
			one.outcome = no
		}
		c.add(one)
	}
	return known && isNumber
}

// register is the key that guarded writes for a name change.
func register(name string) string { return "register-" + name }

// counts is how often what happened.
type counts struct {
	mu     sync.Mutex
	of     map[string]int
	calls  atomic.Int64
	grants atomic.Int64

	overdue time.Duration // how much longer than its WAIT a call took at most
}

// waited notes how long an answered call took.
func (c *counts) waited(wait, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait > 0 {
		c.overdue = max(c.overdue, took-wait)
	}
}

func (c *counts) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[what]++
}
