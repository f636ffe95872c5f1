package passthrough

import "slices"

// An Effect is what a request does to the connection that carries it, as far as
// the order and number of its replies depend on it.
type Effect uint8

const (
	// Plain requests have exactly one reply and no effect.
	Plain Effect = iota
	// Empty is a request without arguments. Redis skips it silently, but it
	// uses up a pending CLIENT REPLY SKIP.
	Empty
	Select
	Multi
	Exec
	Discard
	Watch
	Unwatch
	Reset
	Hello
	Quit
	Monitor
	// Replica marks SYNC, PSYNC and REPLCONF, after which replies can't be counted.
	Replica
	ReplyOn
	ReplyOff
	ReplySkip
	Subscribe
	PSubscribe
	SSubscribe
	Unsubscribe
	PUnsubscribe
	SUnsubscribe

	// blocking requests are Plain; a Batch remembers that it holds one.
	blocking
	// client needs its arguments to be told apart.
	client
)

// longestCommand is the length of the longest name in the table.
const longestCommand = len("punsubscribe")

// commands names, in lower case, every command that is not simply Plain.
var commands = map[string]Effect{
	"select": Select, "multi": Multi, "exec": Exec, "discard": Discard, "watch": Watch, "unwatch": Unwatch,
	"reset": Reset, "hello": Hello, "quit": Quit, "monitor": Monitor,
	"sync": Replica, "psync": Replica, "replconf": Replica, "client": client,
	"subscribe": Subscribe, "psubscribe": PSubscribe, "ssubscribe": SSubscribe,
	"unsubscribe": Unsubscribe, "punsubscribe": PUnsubscribe, "sunsubscribe": SUnsubscribe,
	"blpop": blocking, "brpop": blocking, "brpoplpush": blocking, "blmove": blocking,
	"blmpop": blocking, "bzpopmin": blocking, "bzpopmax": blocking, "bzmpop": blocking,
	"xread": blocking, "xreadgroup": blocking, "wait": blocking, "waitaof": blocking,
}

// initials has, for each length, a bit for each letter that a name of that
// length in the table begins with: most commands are dismissed by it.
var initials = func() (bits [longestCommand + 1]uint32) {
	for name := range commands {
		bits[len(name)] |= 1 << (name[0] - 'a')
	}
	return bits
}()

// lookup returns the effect of the command called name, in any case.
func lookup(name []byte) Effect {
	if len(name) == 0 || len(name) > longestCommand {
		return Plain
	}
	if c := name[0] | 0x20; c < 'a' || c > 'z' || initials[len(name)]&(1<<(c-'a')) == 0 {
		return Plain
	}
	var lower [longestCommand]byte
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	return commands[string(lower[:len(name)])]
}

// subscription reports whether e is one of the six (un)subscribe commands.
func (e Effect) subscription() bool { return e >= Subscribe && e <= SUnsubscribe }

// unsubscription reports whether e takes subscriptions away.
func (e Effect) unsubscription() bool { return e >= Unsubscribe && e <= SUnsubscribe }

// replyMode reports whether e is CLIENT REPLY ON, OFF or SKIP.
func (e Effect) replyMode() bool { return e >= ReplyOn && e <= ReplySkip }

// A run is a stretch of consecutive requests that are answered alike.
type run struct {
	effect Effect
	n      int64 // requests; 1 unless effect is Plain
	arg    int64 // Select: the database; subscriptions: arguments, 0 for "all"
}

// A Batch says what a stretch of request bytes will be answered with. The zero
// value is an empty batch; a batch is reused by Clear.
type Batch struct {
	runs     []run
	requests int64
	blocking bool
	renames  bool

	// Kept over Clear:
	last     Effect // of the last request
	quit     bool   // a QUIT was among the requests; Redis drops what follows
	restless bool   // see Restless
}

// Clear empties the batch. That a QUIT went through it is not forgotten.
func (b *Batch) Clear() {
	b.runs, b.requests, b.blocking, b.renames = b.runs[:0], 0, false, false
}

// Requests is the number of requests in the batch, empty ones not counted.
func (b *Batch) Requests() int64 { return b.requests }

// Special reports whether a request changes the connection, so that what
// follows it may mean something else than it seems to.
func (b *Batch) Special() bool {
	return slices.ContainsFunc(b.runs, func(r run) bool {
		return r.effect != Plain && r.effect != Empty && r.effect != Watch && r.effect != Unwatch
	})
}

// Blocking reports whether a request may keep Redis from answering for long.
func (b *Batch) Blocking() bool { return b.blocking }

// Renames reports whether a request may change the name of the client, which
// HELLO's SETNAME and RESET do as well.
func (b *Batch) Renames() bool { return b.renames }

// Restless reports whether there ever was a request after which Redis may keep
// silent, or speak unasked: one that blocks, subscribes, tracks, monitors or
// switches replies off.
func (b *Batch) Restless() bool { return b.restless }

// AddPlain adds one request with one plain reply.
func (b *Batch) AddPlain() {
	b.requests++
	b.last = Plain
	if k := len(b.runs); k > 0 && b.runs[k-1].effect == Plain {
		b.runs[k-1].n++
		return
	}
	b.runs = append(b.runs, run{Plain, 1, 0})
}

func (b *Batch) add(e Effect, arg int64) {
	if e == Plain {
		b.AddPlain()
		return
	}
	b.requests++
	b.last = e
	b.quit = b.quit || e == Quit
	b.renames = b.renames || e == Hello || e == Reset
	b.restless = b.restless || e == Monitor || e == Replica || e.replyMode() || e.subscription()
	b.runs = append(b.runs, run{e, 1, arg})
}

// addEmpty adds a request without arguments. It has no reply, so it matters
// only where it uses up a SKIP.
func (b *Batch) addEmpty() {
	if b.last == ReplySkip {
		b.runs = append(b.runs, run{Empty, 1, 0})
	}
	b.last = Empty
}
