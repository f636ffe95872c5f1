package proxy

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

// maxSpill is how much a client that doesn't read may leave in its spill before
// writes block again.
const maxSpill = 32 << 20

// A spillConn is a client's socket whose writes can be kept from blocking.
//
// A client that writes a whole pipeline before it reads any reply must not
// stall at a barrier, which waits for replies that nobody takes. So during a
// barrier what the socket does not take at once is spilled to memory, and a
// goroutine writes it as the client reads. TLS lies above it: a TLS connection
// would not survive an interrupted write.
type spillConn struct {
	net.Conn
	out *passthrough.Writer // by whoever has writing or pouring, or holds mu with neither set

	mu       sync.Mutex
	freed    sync.Cond // the spill got shorter, or err was set
	spilling bool      // writes must not block
	writing  bool      // a write is under way in Conn
	kicked   bool      // the write deadline was set to interrupt it
	pouring  bool      // a goroutine writes the spill
	spill    spill     // what it has yet to write
	err      error     // of the pouring goroutine
}

func newSpillConn(conn net.Conn) *spillConn {
	c := &spillConn{Conn: conn, out: passthrough.NewWriter(conn)}
	c.freed.L = &c.mu
	return c
}

// SyscallConn gives access to the socket.
func (c *spillConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite sends a FIN, if the connection can.
func (c *spillConn) CloseWrite() error {
	c.mu.Lock()
	for c.pouring {
		c.freed.Wait()
	}
	c.mu.Unlock()
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Conn.Close()
}

// Spill starts or ends the time in which writes don't block. A write that
// blocks already is interrupted and spilled.
func (c *spillConn) Spill(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spilling = on
	if on && c.writing && !c.kicked {
		c.kicked = true
		c.Conn.SetWriteDeadline(time.Unix(1, 0))
	}
	if on {
		c.freed.Broadcast()
	}
}

// Write writes p, or spills what would block.
func (c *spillConn) Write(p []byte) (int, error) { return c.write(p, false) }

// WriteKept is Write for what nobody will change: what is spilled of it is not copied, so a reply
// to many clients is in memory once.
func (c *spillConn) WriteKept(p []byte) (int, error) { return c.write(p, true) }

func (c *spillConn) write(p []byte, kept bool) (int, error) {
	c.mu.Lock()
	for c.err == nil && c.pouring && (!c.spilling || c.spill.size >= maxSpill) {
		c.freed.Wait()
	}
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, c.err
	}
	if c.spilling {
		defer c.mu.Unlock()
		return c.writeSpilling(p, kept)
	}
	c.writing = true
	c.mu.Unlock()

	n, err := c.out.Write(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if !c.kicked {
		return n, err
	}
	c.kicked = false
	c.Conn.SetWriteDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.pour(p[n:], kept)
		return len(p), nil
	}
	return n, err
}

// writeSpilling writes what the socket takes and spills the rest; mu is held.
func (c *spillConn) writeSpilling(p []byte, kept bool) (int, error) {
	n := 0
	if !c.pouring {
		n = c.out.Try(p)
	}
	if n < len(p) {
		c.pour(p[n:], kept)
	}
	return len(p), nil
}

// pour appends p to the spill and has it written; mu is held.
func (c *spillConn) pour(p []byte, kept bool) {
	c.spill.add(p, kept)
	if !c.pouring && c.spill.size > 0 {
		c.pouring = true
		go c.pourOut()
	}
}

// pourOut writes the spill until it is empty. It ends when the connection is
// closed, at the latest.
func (c *spillConn) pourOut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.spill.size > 0 && c.err == nil {
		taken := c.spill
		c.spill = spill{}
		c.freed.Broadcast()
		c.mu.Unlock()
		err := taken.writeTo(c.out)
		c.mu.Lock()
		c.err = err
	}
	c.pouring = false
	c.spill = spill{}
	c.freed.Broadcast()
}

// Close closes the socket and waits for the goroutine that writes the spill.
func (c *spillConn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pouring {
		c.freed.Wait()
	}
	return err
}

// A spill is bytes for a client that does not take them yet.
type spill struct {
	pieces [][]byte
	size   int
	ours   bool // the last piece is our own copy, which may be appended to
}

// worthKeeping is from what size on a piece that may be kept is not copied.
const worthKeeping = 4 << 10

func (s *spill) add(p []byte, kept bool) {
	s.size += len(p)
	switch last := len(s.pieces) - 1; {
	case kept && len(p) >= worthKeeping:
		s.pieces, s.ours = append(s.pieces, p), false
	case s.ours:
		s.pieces[last] = append(s.pieces[last], p...)
	case len(p) > 0:
		s.pieces, s.ours = append(s.pieces, append([]byte(nil), p...)), true
	}
}

func (s *spill) writeTo(out *passthrough.Writer) error {
	for i, p := range s.pieces {
		if _, err := out.Write(p); err != nil {
			return err
		}
		s.pieces[i] = nil // written, and perhaps large
	}
	return nil
}
