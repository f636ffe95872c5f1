package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func itoa(n int) string { return strconv.Itoa(n) }

// A rig is a Server between clients and a Redis that the test plays.
type rig struct {
	t         *testing.T
	server    *Server
	addr      string
	redis     net.Listener
	upstreams chan net.Conn // closed when redis is
	handler   *script
	log       *logBuffer
	served    chan error
}

// start starts a Server whose upstream connections the test takes by upstream.
func start(t *testing.T, options ...func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t: t, upstreams: make(chan net.Conn, 64), handler: newScript(), log: &logBuffer{}, served: make(chan error, 1),
	}
	redis, clients := listen(t), listen(t)
	r.redis, r.addr = redis, clients.Addr().String()
	go r.acceptLanes()
	cfg := Config{
		Listeners: []Listener{{Listener: clients}},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", redis.Addr().String())
		},
		Handler: r.handler,
		Logger:  slog.New(slog.NewTextHandler(r.log, nil)),
	}
	for _, o := range options {
		o(&cfg)
	}
	r.server = New(cfg)
	go func() { r.served <- r.server.Serve() }()
	t.Cleanup(r.stop)
	return r
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// acceptLanes takes Redis's ends of the lanes.
func (r *rig) acceptLanes() {
	defer close(r.upstreams)
	for {
		conn, err := r.redis.Accept()
		if err != nil {
			return
		}
		r.upstreams <- conn
	}
}

// stop ends the test's server and what is left of its lanes.
func (r *rig) stop() {
	r.stopNow()
	r.redis.Close()
	for conn := range r.upstreams {
		conn.Close()
	}
}

// stopNow shuts the server down the hard way.
func (r *rig) stopNow() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan struct{})
	go func() {
		r.server.Shutdown(ctx)
		close(done)
	}()
	wait(r.t, done, "the server to shut down")
}

// dial connects a client.
func (r *rig) dial() *peer {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return newPeer(r.t, "client", conn)
}

// upstream takes Redis's end of the next lane.
func (r *rig) upstream() *peer {
	r.t.Helper()
	return newPeer(r.t, "redis", wait(r.t, r.upstreams, "a lane"))
}

// pair connects a client and takes its lane.
func (r *rig) pair() (client, redis *peer) {
	r.t.Helper()
	client = r.dial()
	return client, r.upstream()
}

// wait takes a value from c or fails.
func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// eventually polls what has no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A logBuffer is where the server under test logs to.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) contains(s string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.buf.String(), s)
}

// A script is a Handler whose commands do what tests need:
//
//	KS.NOW [word]   replies word
//	KS.WAIT [word]  waits until released (replies word) or its context ends (replies the cause)
//	KS.DO word …    sends a command to Redis and replies its reply
//	KS.WHERE        replies the database and protocol of the session
//	KS.WHO          replies what the session knows of its client
//	KS.PANIC        panics
type script struct {
	waiting  chan commands.Session // KS.WAIT has begun
	release  chan struct{}         // lets one KS.WAIT go
	released chan error            // KS.WAIT has ended; nil, or the cause
	ended    chan commands.Session // Ended was told
	ran      chan commands.Session // by KS.NOW
	// endPanics makes Ended panic.
	endPanics atomic.Bool
	ahead     chan string           // Ahead was told
	begun     chan string           // of a command that has not come to its end
	forgot    chan commands.Session // and that it is over
}

func newScript() *script {
	return &script{
		waiting: make(chan commands.Session, 64), release: make(chan struct{}, 64), released: make(chan error, 64),
		ended: make(chan commands.Session, 1024), ran: make(chan commands.Session, 1024),
		ahead: make(chan string, 1024), begun: make(chan string, 1024), forgot: make(chan commands.Session, 64),
	}
}

func (*script) Knows(name []byte) bool {
	switch strings.ToUpper(string(name)) {
	case "KS.NOW", "KS.WAIT", "KS.DO", "KS.WHERE", "KS.WHO", "KS.GET", "KS.PANIC":
		return true
	}
	return false
}

func (h *script) Run(ctx context.Context, s commands.Session, args [][]byte, dst []byte) []byte {
	word := "done"
	if len(args) > 1 {
		word = string(args[1])
	}
	switch strings.ToUpper(string(args[0])) {
	case "KS.NOW":
		note(h.ran, s)
		return append(dst, "+"+word+"\r\n"...)
	case "KS.WAIT":
		return append(dst, h.wait(ctx, s, word)...)
	case "KS.DO":
		return append(dst, do(ctx, s, args[1:])...)
	case "KS.GET": // which a GET did not answer
		return append(dst, "$-1\r\n"...)
	case "KS.WHERE":
		return append(dst, "+db"+itoa(s.DB())+" resp"+itoa(s.RESP())+"\r\n"...)
	}
	if strings.EqualFold(string(args[0]), "KS.WHO") {
		peer, err := s.Peer(ctx)
		_, port, _ := net.SplitHostPort(peer.Addr)
		return fmt.Appendf(dst, "+%t %q %d %s %v\r\n", port != "", peer.Name, peer.ID, peer.Upstream, err)
	}
	panic("as the test asked")
}

// Read: KS.GET key is the test's word for a command that is answered by a GET.
func (h *script) Read(args [][]byte) (key []byte, ok bool) {
	if len(args) != 2 || string(args[0]) != "KS.GET" {
		return nil, false
	}
	return args[1], true
}

func (h *script) AppendFound(dst, reply []byte) ([]byte, bool) {
	if reply[0] != '$' || reply[1] == '-' {
		return dst, false
	}
	return append(dst, reply...), true
}

func (h *script) Ahead(_ commands.Session, args [][]byte) {
	if args == nil {
		note(h.forgot, nil)
		return
	}
	told := h.ahead
	if slices.ContainsFunc(args, func(arg []byte) bool { return arg == nil }) {
		told = h.begun
	}
	told <- string(bytes.Join(args, []byte(" ")))
}

func (h *script) Ended(s commands.Session) {
	note(h.ended, s)
	if h.endPanics.Load() {
		panic("as the test asked")
	}
}

// note sends s unless nobody has taken what was sent before.
func note(c chan<- commands.Session, s commands.Session) {
	select {
	case c <- s:
	default:
	}
}

func (h *script) wait(ctx context.Context, s commands.Session, word string) string {
	h.waiting <- s
	select {
	case <-h.release:
		h.released <- nil
		return "+" + word + "\r\n"
	case <-ctx.Done():
		h.released <- context.Cause(ctx)
		return "-CAUSE " + context.Cause(ctx).Error() + "\r\n"
	}
}

func do(ctx context.Context, s commands.Session, args [][]byte) string {
	words := make([]any, len(args))
	for i := range args {
		words[i] = args[i]
	}
	v, err := s.Do(ctx, words...)
	if err != nil {
		return "-" + err.Error() + "\r\n"
	}
	text, _ := v.(string)
	return "+" + text + "\r\n"
}

// began waits until a KS.WAIT waits.
func (r *rig) began() commands.Session {
	r.t.Helper()
	return wait(r.t, r.handler.waiting, "a command to wait")
}

// endsWith waits until a KS.WAIT ends, for the cause wanted.
func (r *rig) endsWith(want error) {
	r.t.Helper()
	if got := wait(r.t, r.handler.released, "a waiting command to end"); !errors.Is(got, want) {
		r.t.Fatalf("the waiting command ended with %v; want %v", got, want)
	}
}

// empty waits until the server has no clients.
func (r *rig) empty() {
	r.t.Helper()
	eventually(r.t, "the sessions to end", func() bool { return r.server.NumClients() == 0 })
}
