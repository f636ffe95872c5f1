package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for an event that must come.
const patience = 20 * time.Second

// A peer is one end of a connection, played by the test.
type peer struct {
	t    *testing.T
	conn net.Conn
	name string
}

func newPeer(t *testing.T, name string, conn net.Conn) *peer {
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn, name}
}

// send writes text.
func (p *peer) send(text string) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatalf("%s can't send %.60q: %v", p.name, text, err)
	}
}

// sendAside writes text in a goroutine, and tells when all of it is written.
func (p *peer) sendAside(text string) <-chan struct{} {
	sent := make(chan struct{})
	go func() {
		if _, err := io.WriteString(p.conn, text); err == nil {
			close(sent)
		}
	}()
	return sent
}

// expect reads as many bytes as want has and compares them.
func (p *peer) expect(want string) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.conn, got)
	if err != nil {
		p.t.Fatalf("%s got %.200q, then %v; want %.200q", p.name, got[:n], err, want)
	}
	if string(got) != want {
		p.t.Fatalf("%s got %.200q; want %.200q", p.name, got, want)
	}
}

// expectLine reads up to a line end.
func (p *peer) expectLine() string {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	var line []byte
	for !bytes.HasSuffix(line, []byte("\n")) {
		b := make([]byte, 1)
		if _, err := p.conn.Read(b); err != nil {
			p.t.Fatalf("%s got %q, then %v; want a line", p.name, line, err)
		}
		line = append(line, b[0])
	}
	return string(line)
}

// discard reads n bytes.
func (p *peer) discard(n int64) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	if m, err := io.CopyN(io.Discard, p.conn, n); err != nil {
		p.t.Fatalf("%s got %d bytes of %d: %v", p.name, m, n, err)
	}
}

// end reads to the end of the stream, which may be a FIN (nil) or an error, and
// returns what came before.
func (p *peer) end() (string, error) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(p.conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Fatalf("%s: the connection does not end; got %.200q", p.name, rest)
	}
	return string(rest), err
}

// expectFIN wants an orderly end and nothing before it.
func (p *peer) expectFIN() {
	p.t.Helper()
	if rest, err := p.end(); rest != "" || err != nil {
		p.t.Fatalf("%s got %.200q, %v; want a FIN only", p.name, rest, err)
	}
}

// expectReset wants the connection reset.
func (p *peer) expectReset() {
	p.t.Helper()
	if rest, err := p.end(); !errors.Is(err, syscall.ECONNRESET) {
		p.t.Fatalf("%s got %.200q, %v; want a reset", p.name, rest, err)
	}
}

func (p *peer) close() { p.conn.Close() }

// finish sends a FIN.
func (p *peer) finish() {
	p.t.Helper()
	if err := p.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatalf("%s can't close its sending side: %v", p.name, err)
	}
}

// reset closes with a RST.
func (p *peer) reset() {
	p.conn.(*net.TCPConn).SetLinger(0)
	p.conn.Close()
}

// resp makes a request in RESP of words.
func resp(words ...string) string {
	var b strings.Builder
	writeHeader(&b, '*', len(words))
	for _, w := range words {
		b.WriteString(bulk(w))
	}
	return b.String()
}

func bulk(s string) string {
	var b strings.Builder
	writeHeader(&b, '$', len(s))
	b.WriteString(s + "\r\n")
	return b.String()
}

func writeHeader(b *strings.Builder, sigil byte, n int) {
	b.WriteByte(sigil)
	b.WriteString(itoa(n))
	b.WriteString("\r\n")
}
