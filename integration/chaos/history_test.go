package chaos

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// kind is what an operation on one lock asks for.
type kind int

const (
	lock kind = iota
	unlock
	extend
	write // KS.GUARD name token SET register fence GET
)

func (k kind) String() string { return [...]string{"lock", "unlock", "extend", "write"}[k] }

// outcome is what the caller was told.
type outcome int

const (
	unknown outcome = iota // nothing, or an error that leaves it open
	yes
	no
)

func (o outcome) String() string { return [...]string{"?", "yes", "no"}[o] }

// open is the return of an operation whose reply never came: it may take effect at any later time, or never.
const open = math.MaxInt64

// op is one call, as its caller saw it. A KS.MLOCK is one for each name.
type op struct {
	kind    kind
	name    string
	token   string
	client  int
	call    int64         // before the request was sent; nanoseconds since the history's start
	ret     int64         // after the reply was read
	lease   time.Duration // of lock and extend; 0: SESSION
	outcome outcome
	fence   int64 // of the grant; of write: the value
	old     int64 // of write: the value before
}

func (o op) String() string {
	ret := "never"
	if o.ret != open {
		ret = time.Duration(o.ret).String()
	}
	return fmt.Sprintf("client %d: %v %s %s lease %v fence %d old %d: %v, from %v to %s",
		o.client, o.kind, o.name, o.token, o.lease, o.fence, o.old, o.outcome, time.Duration(o.call), ret)
}

// history is what happened in a round.
type history struct {
	start time.Time

	mu     sync.Mutex
	ops    []op
	wrong  []string // what was seen to be wrong at once
	losses []span   // in which Redis lost its data
}

// span is a time with both its ends.
type span struct{ from, to int64 }

func newHistory() *history { return &history{start: time.Now()} }

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// granted is when the grant with that fence was made, at the earliest. A fence is Redis's clock in microseconds
// unless grants come faster than that, and Redis runs on this machine. The script may have been held up between
// the beginning of the lease and the look at the clock.
func (h *history) granted(fence int64) int64 {
	const heldUp = 50 * time.Millisecond
	return fence*1000 - h.start.UnixNano() - int64(heldUp)
}

func (h *history) add(ops ...op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, ops...)
}

func (h *history) blame(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

func (h *history) lost(from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, span{int64(from.Sub(h.start)), int64(to.Sub(h.start))})
}

// byName are the operations of each lock.
func (h *history) byName() map[string][]op {
	names := map[string][]op{}
	for _, o := range h.ops {
		names[o.name] = append(names[o.name], o)
	}
	return names
}
