package passthrough

import (
	"net"
	"os"
	"syscall"
)

// A Writer writes a connection. On plain TCP and Unix sockets it spares the
// scheduler work around a system call that, in non-blocking mode, never blocks.
// It is for one goroutine at a time.
type Writer struct {
	conn net.Conn
	raw  syscall.RawConn // nil where only conn.Write will do, as with TLS

	p    []byte // what is being written
	n    int    // how much of it has been
	err  error
	poll func(fd uintptr) bool
}

// NewWriter returns a writer of conn, which stays the caller's.
func NewWriter(conn net.Conn) *Writer {
	w := &Writer{conn: conn}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			w.raw, w.poll = raw, w.writable
		}
	}
	return w
}

// Write writes all of p, and blocks as long as that takes. It honours the
// connection's write deadline (os.ErrDeadlineExceeded).
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.raw == nil {
		return w.conn.Write(p)
	}
	w.p, w.n, w.err = p, 0, nil
	err = w.raw.Write(w.poll)
	w.p = nil
	if w.err != nil {
		err = w.err
	}
	return w.n, err
}

// Try writes what the socket takes without waiting. It returns 0 where there is
// no way to tell. Errors are left to the next Write.
func (w *Writer) Try(p []byte) (n int) {
	if w.raw == nil {
		return 0
	}
	w.raw.Write(func(fd uintptr) bool {
		n, _ = write(fd, p)
		return true
	})
	return n
}

// writable writes until all is written. It is RawConn.Write's callback: false
// means wait.
func (w *Writer) writable(fd uintptr) bool {
	for w.n < len(w.p) {
		n, errno := write(fd, w.p[w.n:])
		switch {
		case errno == 0:
			w.n += n
		case errno == syscall.EAGAIN:
			return false
		case errno != syscall.EINTR:
			w.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}
