package passthrough

import (
	"io"
	"net"
	"testing"
	"time"
)

// A peer is Redis, played by the test.
type peer struct {
	t    *testing.T
	conn net.Conn
}

// socketPair returns the two ends of a TCP connection.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// A running is a lane in operation.
type running struct {
	*Lane
	redis  *peer
	ended  chan error // what Run returned
	reason chan string
}

// start starts a lane between owner and a Redis that the test plays.
func start(t *testing.T, owner Sink) *running {
	t.Helper()
	here, there := socketPair(t)
	return startOver(t, owner, here, there)
}

func startOver(t *testing.T, owner Sink, here, there net.Conn) *running {
	t.Helper()
	r := &running{redis: &peer{t, there}, ended: make(chan error, 1), reason: make(chan string, 1)}
	r.Lane = NewLane(here, owner, func(reason string) { r.reason <- reason })
	go func() { r.ended <- r.Run() }()
	t.Cleanup(func() {
		r.Close()
		select {
		case <-r.Done():
		case <-time.After(patience):
			t.Error("the lane does not end")
		}
	})
	return r
}

// request sends requests for sink.
func (r *running) request(sink Sink, requests string) {
	r.redis.t.Helper()
	if err := r.Send(sink, []byte(requests), batchOf(r.redis.t, requests)); err != nil {
		r.redis.t.Fatalf("send %q: %v", requests, err)
	}
}

func (p *peer) send(text string) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Fatalf("redis can't send: %v", err)
	}
}

func (p *peer) expect(want string) {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.conn, got); err != nil || string(got) != want {
		p.t.Fatalf("redis got %.200q, %v; want %.200q", got[:n], err, want)
	}
}

// await takes a value from c or fails.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}
