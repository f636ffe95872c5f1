package passthrough

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

const (
	smallBuffer = 16 << 10
	largeBuffer = 64 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}
)

// Next is what a Reader is to do after what it read was taken.
type Next uint8

const (
	// Stop ends the loop.
	Stop Next = iota
	// Again reads until the socket is surely empty.
	Again
	// Calm allows to believe the socket's hint that it is empty. The hint knows
	// of a FIN but not of a reset; so Calm is for when the connection will soon
	// be written to, or needs not tell of a reset before it is.
	Calm
)

// A Reader reads a connection in a loop. It has a buffer only while there is
// something to read: an idle connection costs none.
//
// On plain TCP and Unix sockets the whole loop runs inside one call of
// RawConn.Read, whose callback reads until the socket is empty and then asks to
// wait. That spares the scheduler work of a net.Conn.Read per message. (A short
// read does not prove the socket empty: a FIN may have come with the data,
// and the poller reports both as one edge. See inbox.)
type Reader struct {
	conn net.Conn
	raw  syscall.RawConn // nil where only conn.Read will do, as with TLS
	in   inbox

	take func(p []byte) (n int, next Next)
	buf  *[]byte // from a pool; nil while waiting
	used int     // bytes of buf that hold input
	held []byte  // input that take has not consumed, while buf is nil
	busy bool    // the last read filled its buffer
	err  error   // why reading ended
	poll func(fd uintptr) bool
}

// NewReader returns a reader of conn, which stays the caller's.
func NewReader(conn net.Conn) *Reader {
	r := &Reader{conn: conn}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r.raw, r.poll = raw, r.readable
			r.in.open(raw)
		}
	}
	return r
}

// Loop reads and offers what it read to take, which consumes n bytes of it and
// says how to go on. What it leaves is offered again with more behind it,
// first of all when Loop is called anew. p is valid only during the call.
//
// Loop returns nil when take said Stop, io.EOF at the end of the stream, else the
// error of the connection (os.ErrDeadlineExceeded for its read deadline).
func (r *Reader) Loop(take func(p []byte) (n int, next Next)) error {
	r.take = take
	if len(r.held) > 0 {
		r.acquire()
		if r.offer() == Stop {
			r.release()
			return nil
		}
	}
	if r.err != nil {
		r.release()
		return r.err
	}
	if r.raw == nil {
		return r.loopPlain()
	}
	if err := r.raw.Read(r.poll); err != nil {
		r.release()
		return err
	}
	return r.err
}

// Held is the number of bytes that were read and not consumed.
func (r *Reader) Held() int { return len(r.held) }

// Peek returns what was read and not consumed; it is valid until the next call of another method but Held.
func (r *Reader) Peek() []byte { return r.held }

// Skip consumes the first n bytes that were read and not consumed.
func (r *Reader) Skip(n int) {
	if n > 0 {
		r.held = append(r.held[:0], r.held[n:]...)
	}
}

// Take removes and returns what was read and not consumed.
func (r *Reader) Take() []byte {
	p := r.held
	r.held = nil
	return p
}

// readable reads all there is. It is RawConn.Read's callback: false means wait.
func (r *Reader) readable(fd uintptr) bool {
	for {
		r.acquire()
		room := (*r.buf)[r.used:]
		n, drained, errno := r.in.read(fd, room)
		switch {
		case n > 0:
			r.used += n
			r.busy = n == len(room)
			if next := r.offer(); next == Stop || (next == Calm && drained) {
				r.release()
				return next == Stop
			}
		case errno == 0:
			r.err = io.EOF
			r.release()
			return true
		case errno == syscall.EAGAIN:
			r.busy = false
			r.release()
			return false
		case errno != syscall.EINTR:
			r.err = os.NewSyscallError("read", errno)
			r.release()
			return true
		}
	}
}

func (r *Reader) loopPlain() error {
	for {
		r.acquire()
		n, err := r.conn.Read((*r.buf)[r.used:])
		if r.used += n; n > 0 && r.offer() == Stop {
			r.release()
			return nil
		}
		if err != nil {
			r.release()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				r.err = err
			}
			return err
		}
	}
}

// offer hands all input to take and keeps what it leaves.
func (r *Reader) offer() Next {
	b := *r.buf
	n, next := r.take(b[:r.used])
	r.used = copy(b, b[n:r.used])
	return next
}

// acquire makes room to read into.
func (r *Reader) acquire() {
	if r.buf == nil {
		r.buf = buffer(len(r.held) + smallBuffer/4)
		r.used = copy(*r.buf, r.held)
		r.held = r.held[:0]
		return
	}
	old, used := r.buf, r.used
	switch {
	case used == len(*old):
		r.buf = buffer(2 * used)
	case r.busy && len(*old) < largeBuffer:
		r.buf = buffer(largeBuffer)
	default:
		return
	}
	copy(*r.buf, (*old)[:used])
	recycle(old)
}

// release gives the buffer back and keeps aside what was not consumed.
func (r *Reader) release() {
	if r.buf == nil {
		return
	}
	if r.held = append(r.held[:0], (*r.buf)[:r.used]...); r.used == 0 {
		r.held = nil
	}
	recycle(r.buf)
	r.buf, r.used = nil, 0
}

// buffer returns a buffer of at least size bytes.
func buffer(size int) *[]byte {
	switch {
	case size <= smallBuffer:
		return smallBuffers.Get().(*[]byte)
	case size <= largeBuffer:
		return largeBuffers.Get().(*[]byte)
	}
	b := make([]byte, size)
	return &b
}

func recycle(b *[]byte) {
	switch len(*b) {
	case smallBuffer:
		smallBuffers.Put(b)
	case largeBuffer:
		largeBuffers.Put(b)
	}
}
