package harness

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// End is how the peer ended a connection.
type End int

// The ways a connection can end; Open means that it has not.
const (
	Open End = iota
	FIN      // an orderly end of file
	RST      // a reset
)

func (e End) String() string { return [...]string{"open", "FIN", "RST"}[e] }

// Conn is a client connection that records all that arrives and how it ends.
// A goroutine of its own reads, so a server never waits for the test to read.
type Conn struct {
	net.Conn

	mu       sync.Mutex
	received []byte
	taken    int // how much of received Take and Reply have handed out
	end      End
	changed  chan struct{} // closed and replaced whenever received or end changes
	scratch  []byte
}

// Dial connects and starts to record; the connection is closed at the end of
// the test at the latest.
func Dial(t testing.TB, network, addr string) *Conn {
	t.Helper()
	nc, err := net.DialTimeout(network, addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	return Record(t, nc)
}

// TryDial is Dial for callers that expect it to fail; the caller must close the
// connection.
func TryDial(addr string) (*Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		return nil, err
	}
	return NewConn(nc), nil
}

// DialTLS is Dial with TLS on top, the handshake done.
func DialTLS(t testing.TB, addr string, config *tls.Config) *Conn {
	t.Helper()
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: Patience}, "tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	return Record(t, nc)
}

// Record is NewConn with the connection closed at the end of the test.
func Record(t testing.TB, nc net.Conn) *Conn {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	return NewConn(nc)
}

// NewConn starts to record what arrives on nc, which it owns from here on; the
// caller must close it.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{Conn: nc, changed: make(chan struct{}), scratch: make([]byte, 16<<10)}
	if raw, err := rawConn(nc); err == nil {
		go c.readRaw(raw)
	} else {
		go c.readStream()
	}
	return c
}

// rawConn gives access to the socket under a plain connection.
func rawConn(nc net.Conn) (syscall.RawConn, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("%T has no socket to look at", nc)
	}
	return sc.SyscallConn()
}

// readRaw moves bytes from the socket into received under the lock, so that
// Drain can tell that nothing is on its way between the two.
func (c *Conn) readRaw(raw syscall.RawConn) {
	raw.Read(func(fd uintptr) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drain(int(fd))
		return c.end != Open
	})
}

// drain reads until the socket has nothing more. The caller holds mu.
func (c *Conn) drain(fd int) {
	for c.end == Open {
		n, err := syscall.Read(fd, c.scratch)
		switch {
		case n > 0:
			c.append(c.scratch[:n])
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return
		case err == nil:
			c.finish(FIN)
		default:
			c.finish(RST)
		}
	}
}

// readStream reads a connection that is no bare socket (TLS).
func (c *Conn) readStream() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		if n > 0 {
			c.append(buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c.finish(FIN)
		default:
			c.finish(RST)
		}
		ended := c.end != Open
		c.mu.Unlock()
		if ended {
			return
		}
	}
}

// append and finish record what happened. The caller holds mu.
func (c *Conn) append(b []byte) {
	c.received = append(c.received, b...)
	c.wake()
}

func (c *Conn) finish(end End) {
	c.end = end
	c.wake()
}

func (c *Conn) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Drain takes over what the kernel already holds for this connection and
// returns all that was received and the end seen: after it, nothing that
// arrived before the call is missing. Only for plain sockets.
func (c *Conn) Drain(t testing.TB) ([]byte, End) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == Open {
		raw, err := rawConn(c.Conn)
		if err == nil {
			err = raw.Control(func(fd uintptr) { c.drain(int(fd)) })
		}
		if err != nil {
			t.Fatalf("drain: %v", err)
		}
	}
	return c.received, c.end
}

// Received returns all that has arrived so far, and the end if it was seen.
// The bytes must not be changed.
func (c *Conn) Received() ([]byte, End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received, c.end
}

// Await waits until done says so for what was received; it reports false when
// that does not happen within the time given.
func (c *Conn) Await(within time.Duration, done func(received []byte, end End) bool) bool {
	var timeout <-chan time.Time
	for {
		c.mu.Lock()
		received, end, changed := c.received, c.end, c.changed
		c.mu.Unlock()
		if done(received, end) {
			return true
		}
		if timeout == nil {
			timeout = time.After(within)
		}
		select {
		case <-changed:
		case <-timeout:
			return false
		}
	}
}

// AwaitEnd waits for the peer to end the connection and returns how it did.
func (c *Conn) AwaitEnd(t testing.TB) End {
	t.Helper()
	if !c.Await(Patience, func(_ []byte, end End) bool { return end != Open }) {
		received, _ := c.Received()
		t.Fatalf("the connection is still open after %v; received last %q", Patience, last(received))
	}
	_, end := c.Received()
	return end
}

// Send writes raw bytes.
func (c *Conn) Send(t testing.TB, b string) {
	t.Helper()
	if _, err := io.WriteString(c.Conn, b); err != nil {
		t.Fatalf("send %.80q: %v", b, err)
	}
}

// Do sends one command and returns the bytes of the next reply.
func (c *Conn) Do(t testing.TB, args ...string) string {
	t.Helper()
	c.Send(t, Command(args...))
	return c.Reply(t)
}

// Asks sends a command and fails the test unless its reply is exactly want.
func (c *Conn) Asks(t testing.TB, want string, args ...string) {
	t.Helper()
	c.Send(t, Command(args...))
	c.Want(t, want)
}

// Want reads the next reply and fails the test unless it is exactly want.
func (c *Conn) Want(t testing.TB, want string) {
	t.Helper()
	if got := c.Reply(t); got != want {
		t.Fatalf("reply %.300q, want %.300q", got, want)
	}
}

// Reply waits for the next reply frame and returns its bytes.
func (c *Conn) Reply(t testing.TB) string {
	t.Helper()
	reply, err := c.ReplyWithin(Patience)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// ReplyWithin is Reply for callers that expect the reply to fail to come, or
// to come soon.
func (c *Conn) ReplyWithin(within time.Duration) (string, error) {
	var n int
	var frameErr error
	ok := c.Await(within, func(received []byte, end End) bool {
		n, frameErr = frameLength(received[c.taken:])
		return n > 0 || frameErr != nil || end != Open
	})
	received, end := c.Received()
	switch {
	case frameErr != nil:
		return "", frameErr
	case n > 0:
		reply := string(received[c.taken : c.taken+n])
		c.taken += n
		return reply, nil
	case ok:
		return "", fmt.Errorf("the connection ended (%v) before a reply; rest: %q", end, last(received[c.taken:]))
	default:
		return "", fmt.Errorf("no reply within %v; rest: %q", within, last(received[c.taken:]))
	}
}

// CloseWrite sends FIN: no more requests come.
func (c *Conn) CloseWrite(t testing.TB) {
	t.Helper()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("%T cannot be half-closed", c.Conn)
	}
	if err := half.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("half-close: %v", err)
	}
}

// Reset ends the connection with RST.
func (c *Conn) Reset(t testing.TB) {
	t.Helper()
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T cannot be reset", c.Conn)
	}
	tcp.SetLinger(0)
	tcp.Close()
}

// Command encodes args as a RESP array of bulk strings.
func Command(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

// answers reports whether a server at addr answers a PING; one that asks for
// a password or shows a protocol of its own is up as well.
func answers(network, addr string) error {
	nc, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(nc, "PING\r\n"); err != nil {
		return err
	}
	_, err = nc.Read(make([]byte, 64))
	return err
}

// accepts reports whether somebody listens at addr.
func accepts(network, addr string) error {
	nc, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return nc.Close()
}

func last(b []byte) []byte {
	return b[max(0, len(b)-300):]
}
