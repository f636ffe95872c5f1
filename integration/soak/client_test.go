package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/faults"
	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// soon bounds how much longer than its WAIT a call may take while things break, and healing how long one without may
// go on when all is mended.
const (
	soon    = 30 * time.Second
	healing = 60 * time.Second
)

// client does this and that until its context ends.
type client struct {
	*cycle
	id     int
	random *rand.Rand
	conn   *harness.Conn // nil: none
	proxy  int           // which it is connected to
	db     int
	tokens int
}

// status is what became of a call.
type status int

const (
	answered status = iota
	broken          // the connection ended
	unsent          // there was no connection
	timedOut        // its caller was impatient
)

func (c *client) run(ctx context.Context) {
	for c.pace(ctx) {
		if c.chance(12) {
			c.drop()
		}
		e := c.pick()
		switch n := c.random.IntN(100); {
		case n < 72:
			c.memo(ctx, e)
		case n < 80:
			c.lock(ctx, e)
		case n < 87:
			c.forget(e)
		case n < 91:
			c.delete(e)
		case n < 95:
			c.set(e)
		case n < 99:
			c.peer(e)
		default:
			c.status(e)
		}
	}
	c.drop()
}

// pick is any name, mostly of the database that is selected already.
func (c *client) pick() *entry {
	for {
		e := c.entries[c.random.IntN(len(c.entries))]
		if c.conn == nil || e.db == c.db || c.chance(20) {
			return e
		}
	}
}

func (c *client) upTo(most time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(most)))
}

func (c *client) between(least, most time.Duration) time.Duration {
	return (least + c.upTo(most-least)).Truncate(time.Millisecond)
}
func (c *client) chance(n int) bool { return c.random.IntN(n) == 0 }

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// connect makes sure that there is a connection with that database selected; false if there is none for now.
func (c *client) connect(db int) bool {
	if c.conn != nil {
		if _, end := c.conn.Received(); end != harness.Open {
			c.drop()
		}
	}
	if c.conn == nil {
		c.proxy = c.random.IntN(faults.Proxies)
		conn, err := harness.TryDial(c.Proxy(c.proxy).Addr)
		if err != nil {
			time.Sleep(c.upTo(100 * time.Millisecond)) // before it tries another proxy
			return false
		}
		c.conn, c.db = conn, 0
	}
	if c.db == db {
		return true
	}
	if _, err := c.conn.Write([]byte(harness.Command("SELECT", strconv.Itoa(db)))); err != nil {
		c.drop()
		return false
	}
	reply, err := c.conn.ReplyWithin(soon)
	if err != nil {
		if _, end := c.conn.Received(); end == harness.Open {
			c.hung(fmt.Sprintf("client %d at proxy %d: SELECT was not answered for %v", c.id, c.proxy, soon))
		}
	}
	if reply != "+OK\r\n" {
		c.drop()
		return false
	}
	c.db = db
	return true
}

// drop ends the connection, with FIN or RST.
func (c *client) drop() {
	if c.conn == nil {
		return
	}
	if tcp, ok := c.conn.Conn.(interface{ SetLinger(int) error }); ok && c.chance(2) {
		tcp.SetLinger(0)
	}
	c.conn.Close()
	c.conn = nil
}

// answer is a reply and when it came.
type answer struct {
	status    status
	value     any
	call, ret int64
}

// ask sends a command about e. It may take so long: bound < 0 is as long as things break and a while more; patience > 0
// is when its caller gives up.
func (c *client) ask(e *entry, bound, patience time.Duration, args ...string) answer {
	if !c.connect(e.db) {
		return answer{status: unsent}
	}
	return c.exchange(e, bound, patience, args...)
}

// exchange is ask on the connection there is.
func (c *client) exchange(e *entry, bound, patience time.Duration, args ...string) (a answer) {
	a.call = c.now()
	defer func() {
		e.note(fmt.Sprintf("%v to %v: client %d at proxy %d: %.120q: %s", time.Duration(a.call), time.Duration(c.now()), c.id, c.proxy, args, a))
	}()
	c.calls.Add(1)
	if _, err := c.conn.Write([]byte(harness.Command(args...))); err != nil {
		c.drop()
		a.status = broken
		return a
	}
	for {
		wait := 2 * time.Second
		if bound >= 0 {
			wait = bound
		}
		if patience > 0 {
			wait = min(wait, patience)
		}
		reply, err := c.conn.ReplyWithin(wait)
		_, end := c.conn.Received()
		passed := time.Duration(c.now() - a.call)
		switch {
		case err == nil:
			a.ret = c.now()
			a.value, _, err = stage.ParseOne(reply)
			if err != nil {
				e.complain("client %d: %.100q answers %.100q", c.id, args, reply)
			}
			return a
		case end != harness.Open:
			a.status = broken
		case patience > 0 && passed >= patience:
			a.status = timedOut
		case bound >= 0:
			c.hung(fmt.Sprintf("client %d at proxy %d, db %d: %.100q was not answered for %v", c.id, c.proxy, e.db, args, passed))
			a.status = broken
		case c.healedFor() > healing:
			c.hung(fmt.Sprintf("client %d at proxy %d, db %d: %.100q was not answered for %v, %v of them after all was mended",
				c.id, c.proxy, e.db, args, passed, c.healedFor()))
			a.status = broken
		default:
			continue
		}
		c.drop()
		return a
	}
}

func (a answer) String() string {
	if a.status != answered {
		return [...]string{"", "connection ended", "not sent", "gave up"}[a.status]
	}
	return short(a.value)
}

func short(reply any) string { return fmt.Sprintf("%.150s", fmt.Sprint(reply)) }

// number is an integer reply; unknown if it is something else. Errors that nobody should see are complained about.
func (c *client) number(e *entry, a answer, what string) (int64, outcome) {
	if a.status != answered {
		c.count(what + ": no answer")
		return 0, unknown
	}
	switch v := a.value.(type) {
	case int64:
		c.count(fmt.Sprintf("%s: %d", what, min(v, 1)))
		if v > 0 {
			return v, yes
		}
		return v, no
	case stage.Refusal:
		c.refused(e, what, string(v))
	default:
		e.complain("client %d: %s answers %s", c.id, what, short(v))
	}
	return 0, unknown
}

// refused complains about errors that nobody should see.
func (c *client) refused(e *entry, what, words string) {
	first, _, _ := strings.Cut(words, " ")
	c.count(what + ": " + first)
	if first != "KSUNAVAILABLE" && first != "LOADING" {
		e.complain("client %d: %s is told %q", c.id, what, words)
	}
}
