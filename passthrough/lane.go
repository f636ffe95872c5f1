package passthrough

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Sink takes the replies to the requests that named it.
type Sink interface {
	// Reply hands over p, a piece of the stream of replies, valid only during
	// the call. answered of the sink's requests are done with it; it may be
	// more than zero for an empty p, where Redis owes no reply. With mid, p
	// stops in the middle of a frame.
	//
	// On a dedicated lane Reply may block, which stops the reading from Redis.
	Reply(p []byte, answered int64, mid bool)
}

// ErrBroken is returned for a request on a lane that has ended.
var ErrBroken = errors.New("connection to redis lost")

// A Lane is one connection to Redis. Requests go in by Send, each with the Sink
// of its replies; Run reads the replies. Any number of goroutines may Send: a
// lane that serves one client and a lane that serves many differ only in that.
type Lane struct {
	conn  net.Conn
	out   *Writer
	owner Sink // of what Redis says unasked; nil on a lane without one client

	sending sync.Mutex // order of requests: held from expecting to written

	mu     sync.Mutex // guards all below; never held while calling out or writing
	owed   owed
	frames frames
	begun  bool // within a frame
	oob    bool // the frame begun is no reply
	state  State
	pubsub bool // a subscription command was sent at some time
	reset  bool // a RESET was replied to
	turned bool // a reply that changes the protocol is being delivered
	hushed bool // the owner's replies are off, and on for a command of ours only
	calm   bool // nothing is in flight, and Redis says nothing unasked
	unruly bool // Redis may say something unasked, see Batch.Restless
	segs   []segment

	opaque  atomic.Bool
	closing atomic.Bool
	piped   chan struct{} // closed when the lane becomes a pipe
	done    chan struct{} // closed when Run has read its last
	onPipe  func(reason string)
	onReset func()
}

// segment is a piece of the bytes read that goes to one sink.
type segment struct {
	sink     Sink
	from, to int
	answered int64
	mid      bool
}

// NewLane returns a lane over conn, which it owns from here on. What Redis says
// unasked goes to owner; onPipe, which may be nil, is told once, and why, if
// the lane becomes a pipe.
func NewLane(conn net.Conn, owner Sink, onPipe func(reason string)) *Lane {
	l := &Lane{conn: conn, out: NewWriter(conn), owner: owner, onPipe: onPipe}
	l.piped, l.done = make(chan struct{}), make(chan struct{})
	l.state.RESP = 2
	return l
}

// OnReset makes f be called for each RESET that Redis has executed, before its
// reply counts. It must be set before Run; f may not block.
func (l *Lane) OnReset(f func()) { l.onReset = f }

// PushesRESP3 reports whether a push in RESP3 may be written to the owner now: it
// is known to speak RESP3 after the replies that were delivered so far, and after
// those that are being delivered, and has not switched replies off. The answer is
// good for as long as who asks keeps replies from being delivered.
func (l *Lane) PushesRESP3() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.state
	return s.RESP == 3 && !s.Unsure && !s.Off && !l.turned && !l.hushed && !l.Opaque()
}

// Send writes p, which holds the requests of b, and books their replies for
// sink. It blocks while Redis doesn't read. On a lane with several senders p
// must end with a whole request.
func (l *Lane) Send(sink Sink, p []byte, b *Batch) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if b != nil && len(b.runs) > 0 && !l.opaque.Load() {
		l.expect(sink, b)
	}
	_, err := l.out.Write(p)
	if err != nil {
		// What Redis said last may still be unread. A reset that a hint did not
		// tell of is noticed by the deadline.
		l.conn.SetReadDeadline(time.Now().Add(resetTimeout))
	}
	return err
}

// resetTimeout is how long a lane that can't be written to is read on.
const resetTimeout = 100 * time.Millisecond

// expect books the replies to the requests of b before they are written.
func (l *Lane) expect(sink Sink, b *Batch) {
	l.mu.Lock()
	l.unruly = l.unruly || b.restless
	for _, r := range b.runs {
		l.pubsub = l.pubsub || r.effect.subscription()
		l.owed.push(sink, r)
	}
	silent, reason := l.settleSilent()
	l.mu.Unlock()
	if silent > 0 {
		l.owner.Reply(nil, silent, false)
	}
	if reason != "" {
		l.Pipe(reason)
	}
}

// Run reads replies until the connection ends, closes it and returns why it
// ended: io.EOF, net.ErrClosed after Close, or the error of the connection. It
// must be called once.
func (l *Lane) Run() error {
	defer l.conn.Close()
	defer close(l.done)
	r := NewReader(l.conn)
	err := r.Loop(func(p []byte) (int, Next) {
		l.feed(p)
		switch {
		case l.closing.Load():
			return len(p), Stop
		case l.calm:
			return len(p), Calm
		}
		return len(p), Again
	})
	if l.closing.Load() {
		return net.ErrClosed
	}
	return err
}

// Done is closed when the lane has ended and all it read was delivered.
func (l *Lane) Done() <-chan struct{} { return l.done }

// State returns what the lane knows of its connection. It is exact while no
// request is in flight.
func (l *Lane) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Opaque reports whether the lane has become a pipe.
func (l *Lane) Opaque() bool { return l.opaque.Load() }

// Pipe makes the lane a pipe for the rest of its life: replies are no longer
// counted and everything read goes to the owner.
func (l *Lane) Pipe(reason string) {
	if l.opaque.Swap(true) {
		return
	}
	close(l.piped)
	if l.onPipe != nil {
		l.onPipe(reason)
	}
}

// CloseWrite ends the sending direction; Redis takes it as a disconnect, after
// it has executed what it received.
func (l *Lane) CloseWrite() error {
	if c, ok := l.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return l.conn.Close()
}

// Close makes Run, and whoever sends, return soon. It doesn't wait for them, as
// closing the connection would, so a Sink may call it; Run closes the connection.
func (l *Lane) Close() {
	l.closing.Store(true)
	l.conn.SetDeadline(time.Unix(1, 0))
}

// feed takes the next bytes read from Redis apart and delivers them.
func (l *Lane) feed(p []byte) {
	if l.opaque.Load() {
		l.calm = false
		l.deliver(p, segment{sink: l.owner, to: len(p)})
		return
	}
	l.mu.Lock()
	resp := l.state.RESP
	reason := l.split(p)
	// A server that closes without having read requests in flight, or what
	// follows a protocol error, resets the connection.
	l.calm = reason == "" && !l.begun && !l.unruly && l.owed.head() == nil && l.frames.top != '-'
	reset, turned := l.reset, l.state.RESP != resp
	l.reset, l.turned = false, turned
	l.mu.Unlock()
	if reason != "" {
		l.Pipe(reason)
	}
	if reset && l.onReset != nil {
		l.onReset()
	}
	for i := range l.segs {
		l.deliver(p, l.segs[i])
		l.segs[i].sink = nil
	}
	if turned {
		l.mu.Lock()
		l.turned = false
		l.mu.Unlock()
	}
}

func (l *Lane) deliver(p []byte, s segment) {
	if s.sink != nil {
		s.sink.Reply(p[s.from:s.to], s.answered, s.mid)
	}
}

// split finds the frames in p and whose they are, and leaves the result in
// segs. A reason is returned if the lane must become a pipe.
func (l *Lane) split(p []byte) (reason string) {
	l.segs = l.segs[:0]
	for i := 0; i < len(p); {
		if !l.begun {
			l.beginFrame(p[i])
		}
		sink := l.owner
		if !l.oob {
			sink = l.owed.head().sink
		}
		n, end, ok := l.frames.next(p[i:])
		if !ok {
			l.segment(l.owner, i, len(p), 0, false)
			return "Redis sent something that is no RESP"
		}
		var answered int64
		if end {
			l.begun = false
			if answered, reason = l.endFrame(); reason != "" {
				l.segment(sink, i, len(p), answered, false)
				return reason
			}
		}
		l.segment(sink, i, i+n, answered, !end)
		i += n
		if end {
			if reason = l.creditSilent(); reason != "" {
				l.segment(l.owner, i, len(p), 0, false)
				return reason
			}
		}
	}
	return ""
}

// creditSilent adds what Redis answers with silence to the segments. Only the
// owner of a lane can have changed its reply mode.
func (l *Lane) creditSilent() (reason string) {
	if h := l.owed.head(); h == nil || (h.effect == Plain && !l.state.Off && !l.state.Skip) {
		return ""
	}
	silent, reason := l.settleSilent()
	if silent > 0 {
		at := l.segs[len(l.segs)-1].to
		l.segment(l.owner, at, at, silent, false)
	}
	return reason
}

// segment appends a piece, or lengthens the last one if its sink is the same.
func (l *Lane) segment(sink Sink, from, to int, answered int64, mid bool) {
	if k := len(l.segs) - 1; k >= 0 && l.segs[k].sink == sink {
		s := &l.segs[k]
		s.to, s.mid = to, mid
		s.answered += answered
		return
	}
	l.segs = append(l.segs, segment{sink, from, to, answered, mid})
}

// beginFrame decides, from the first byte, whose the next frame is.
func (l *Lane) beginFrame(first byte) {
	l.begun = true
	head := l.owed.head()
	l.oob = head == nil || first == '>' || l.state.Monitor || l.state.Subscriber()
	keep := l.oob || head.effect != Plain || l.state.Multi
	l.frames.begin(keep, keep && head != nil && head.effect == Exec && len(l.state.queued) > 0)
}
