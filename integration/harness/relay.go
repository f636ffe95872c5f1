package harness

import (
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Relay is a link that a test can break: it forwards TCP connections to a
// server and can cut, stall, delay or refuse them, all or one by one.
type Relay struct {
	Addr   string // where it listens: host:port
	listen net.Listener
	work   sync.WaitGroup

	mu      sync.Mutex
	target  string
	refuses bool
	delay   time.Duration // of links to come, too
	links   []*Link
}

// StartRelay forwards to target until the end of the test.
func StartRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Addr: l.Addr().String(), target: target, listen: l}
	r.work.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.Cut()
		r.work.Wait()
	})
	return r
}

// URL is the address as the proxy's upstream directive takes it.
func (r *Relay) URL() string { return "redis://" + r.Addr }

func (r *Relay) accept() {
	for {
		client, err := r.listen.Accept()
		if err != nil {
			return
		}
		r.work.Go(func() { r.serve(client) })
	}
}

func (r *Relay) serve(client net.Conn) {
	defer client.Close()
	if r.refusing() {
		return
	}
	server, err := net.Dial("tcp", r.aim())
	if err != nil {
		return
	}
	defer server.Close()
	l := &Link{Addr: server.LocalAddr().String(), client: client, server: server}
	l.up.init(client, server)
	l.down.init(server, client)
	if !r.add(l) {
		return
	}
	defer r.remove(l)
	var both sync.WaitGroup
	both.Go(l.up.run)
	both.Go(l.down.run)
	both.Wait()
}

func (r *Relay) refusing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refuses
}

func (r *Relay) add(l *Link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.Delay(r.delay)
	if !r.refuses {
		r.links = append(r.links, l)
	}
	return !r.refuses
}

func (r *Relay) remove(l *Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = slices.DeleteFunc(r.links, func(other *Link) bool { return other == l })
}

// Links returns the connections that are open now.
func (r *Relay) Links() []*Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.links)
}

// Link returns the connection that the server knows by addr, nil if it is not
// one of the relay's.
func (r *Relay) Link(addr string) *Link {
	for _, l := range r.Links() {
		if l.Addr == addr {
			return l
		}
	}
	return nil
}

func (r *Relay) aim() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target
}

// Retarget forwards to target from now on. Connections that are open stay where they are.
func (r *Relay) Retarget(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// Refuse says whether connections are closed as soon as they are accepted. Those
// that are open stay.
func (r *Relay) Refuse(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = refuse
}

// Cut closes both sides of all connections.
func (r *Relay) Cut() {
	for _, l := range r.Links() {
		l.Cut()
	}
}

// Delay makes whatever goes through, in either direction, arrive later by d.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	r.delay = d
	r.mu.Unlock()
	for _, l := range r.Links() {
		l.Delay(d)
	}
}

// Link is one connection through a Relay.
type Link struct {
	Addr           string // ip:port by which the server knows it
	client, server net.Conn
	up, down       flow // to the server, and back
}

// Cut closes both sides.
func (l *Link) Cut() {
	l.up.end()
	l.down.end()
	l.client.Close()
	l.server.Close()
}

// CutClient closes the client's side alone: the server's stays open, and what
// is held back may still be let through to it.
func (l *Link) CutClient() { l.client.Close() }

// Stall stops forwarding in both directions; nothing is closed or lost.
func (l *Link) Stall() {
	l.up.allow(0)
	l.down.allow(0)
}

// Resume ends a Stall, or a limit.
func (l *Link) Resume() {
	l.up.allow(math.MaxInt)
	l.down.allow(math.MaxInt)
}

// LimitUp lets n more bytes through to the server and holds back the rest.
func (l *Link) LimitUp(n int) { l.up.allow(n) }

// LimitDown lets n more bytes through to the client and holds back the rest.
func (l *Link) LimitDown(n int) { l.down.allow(n) }

// Held is how many bytes for the server are held back, as far as they were read.
func (l *Link) Held() int { return l.up.heldBack() }

// Delay makes whatever goes through arrive later by d.
func (l *Link) Delay(d time.Duration) {
	l.up.setDelay(d)
	l.down.setDelay(d)
}

// flow copies one direction.
type flow struct {
	from, to net.Conn

	mu      sync.Mutex
	changed *sync.Cond
	allowed int // bytes that may pass
	held    int // bytes that were read and may not pass yet
	delay   time.Duration
	ended   bool
}

func (f *flow) init(from, to net.Conn) {
	f.from, f.to = from, to
	f.allowed = math.MaxInt
	f.changed = sync.NewCond(&f.mu)
}

func (f *flow) run() {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.from.Read(buf)
		if !f.pass(buf[:n]) {
			return
		}
		if err != nil {
			f.finish()
			return
		}
	}
}

// pass writes b as far and as soon as it may; false when the link has ended.
func (f *flow) pass(b []byte) bool {
	for len(b) > 0 {
		n, delay := f.take(len(b))
		if n == 0 {
			return false
		}
		if delay > 0 {
			time.Sleep(delay) // it is what the test asked for
		}
		if _, err := f.to.Write(b[:n]); err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

// take waits until at least one of n bytes may pass and returns how many; 0 at
// the end of the link.
func (f *flow) take(n int) (int, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = n
	for f.allowed == 0 && !f.ended {
		f.changed.Wait()
	}
	if f.ended {
		return 0, 0
	}
	n = min(n, f.allowed)
	f.held -= n
	if f.allowed != math.MaxInt {
		f.allowed -= n
	}
	return n, f.delay
}

// finish passes the end of the input on, unless it is held back, too.
func (f *flow) finish() {
	if n, _ := f.take(1); n == 0 {
		return
	}
	if half, ok := f.to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}

func (f *flow) allow(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = n
	f.changed.Broadcast()
}

func (f *flow) heldBack() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

func (f *flow) setDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}
