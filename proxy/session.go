package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

// A session is one client: its socket, its lane to Redis, and what was read
// from it and not dealt with.
//
// Two goroutines work for it. One reads the client: it calls consume with what
// it read and, where consume wants more than relaying, attend. The other, which
// belongs to the lane, calls Reply. consume never waits for replies and never
// blocks but in the write to the lane, so whoever owns the bytes of several
// clients may call it for all of them.
type session struct {
	srv    *Server
	tls    *tls.Conn  // nil for a plain client
	socket *spillConn // the client's socket
	conn   net.Conn   // socket, or TLS over it
	reader *passthrough.Reader
	lane   *passthrough.Lane
	shared atomic.Pointer[passthrough.Lane] // lane, for goroutines not of the session

	// Owned by whoever calls consume and attend.
	scan     passthrough.Scanner
	batch    passthrough.Batch
	issued   int64        // requests sent, as far as they have replies
	blocking bool         // one of those in flight may block in Redis
	command  []byte       // a command of ours, as far as it has been read
	within   bool         // the end of command is still to come
	vetted   bool         // the client is authenticated, or need not be
	peer     *engine.Peer // nil: not asked, or it may have another name since
	pipe     bool         // bytes pass unseen
	deaf     bool         // Redis takes nothing any more; input is dropped
	couple   int          // how long the next train of commands may be, see hits
	served   int          // bytes that the reader holds of commands which were answered with the last one

	// Owned by the lane's reading goroutine.
	mid  bool // a frame is written in part; frame is held
	dead bool // the client takes no replies any more

	frame    sync.Mutex   // held while a frame is written to the client
	answered atomic.Int64 // requests whose replies were written or spilled
	running  sync.Mutex   // held while a command of ours runs
	asking   sync.Mutex   // held for a PING, and an exchange that it may not come into
	over     bool         // no command of ours may run any more; running is held
	ran      atomic.Bool  // a command of ours was run
	pushes   pushes
	awaited  atomic.Int64 // a barrier waits for answered to reach it; -1: none
	quiet    chan struct{}
	stop     atomic.Pointer[context.CancelCauseFunc] // ends the running command

	deadline sync.Mutex // guards base
	base     time.Time  // read deadline when no one interrupts reading
	draining atomic.Bool
	ending   atomic.Bool // the session closes its connections itself
	unheard  atomic.Bool // Redis didn't answer what a command of ours asked

	idle struct { // for closeIdle only
		issued, answered, attended int64
		since                      time.Time
	}
	sent     atomic.Int64 // issued, for other goroutines; kept only with a timeout
	attended atomic.Int64 // commands of ours
}

// newSession returns a session for a client's connection, which it owns.
func newSession(srv *Server, conn net.Conn, config *tls.Config) *session {
	s := &session{srv: srv, socket: newSpillConn(conn), quiet: make(chan struct{}, 1), couple: firstTrain}
	s.conn = s.socket
	if config != nil {
		s.tls = tls.Server(s.socket, config)
		s.conn = s.tls
	}
	s.scan.Intercept = srv.intercepts
	s.awaited.Store(-1)
	return s
}

// intercepts reports whether name is a command of the handler's.
func (s *Server) intercepts(name []byte) bool {
	return len(name) > 3 && name[0]|0x20 == 'k' && name[1]|0x20 == 's' && name[2] == '.' && s.cfg.Handler.Knows(name)
}

// run serves the client until it or Redis ends the connection.
func (s *session) run() {
	defer s.srv.left(s)
	defer s.pushes.end()
	defer s.conn.Close()
	defer s.recovered()
	if !s.establish() {
		return
	}
	replies := make(chan struct{})
	defer func() { <-replies }()
	defer s.recovered()
	go s.relayReplies(replies)
	s.serve()
}

// recovered keeps a bug from taking other clients down.
func (s *session) recovered() {
	if r := recover(); r != nil {
		s.srv.log.Error("session failed", "client", s.addr(), "err", r, "stack", string(debug.Stack()))
		s.abort()
	}
}

func (s *session) addr() string { return s.socket.RemoteAddr().String() }

// establish completes the TLS handshake and opens the lane. A client that can't
// be served is closed without a word, as if nobody listened.
func (s *session) establish() bool {
	if s.tls != nil {
		ctx, cancel := context.WithTimeout(s.srv.ctx, handshakeTimeout)
		defer cancel()
		if err := s.tls.HandshakeContext(ctx); err != nil {
			s.srv.log.Debug("TLS handshake failed", "client", s.addr(), "err", err)
			return false
		}
	}
	setKeepAlive(s.socket.Conn, s.srv.cfg.KeepAlive)
	ctx, cancel := context.WithTimeout(s.srv.ctx, dialTimeout)
	defer cancel()
	upstream, err := s.srv.cfg.Dial(ctx)
	if err != nil {
		s.srv.log.Warn("redis can't be reached; closing client", "client", s.addr(), "err", err)
		s.reset()
		return false
	}
	setKeepAlive(upstream, s.srv.cfg.KeepAlive)
	if s.denied(upstream) {
		upstream.Close()
		return false
	}
	lane := passthrough.NewLane(upstream, s, s.becamePipe)
	lane.OnReset(s.commandsEnded)
	s.join(lane)
	return true
}

// join puts the session on lane.
func (s *session) join(lane *passthrough.Lane) {
	s.reader = passthrough.NewReader(s.conn)
	s.lane = lane
	s.shared.Store(lane)
}

// serve reads the client to the end of its stream.
func (s *session) serve() {
	for {
		err := s.reader.Loop(s.consume)
		if err == nil {
			s.attend()
			s.reader.Skip(s.served)
			s.served = 0
			continue
		}
		s.clientEnded(err)
		return
	}
}

// consume deals with input p: n bytes of it are relayed, or kept as a command
// of ours. It says Stop where attend must be called before more input is
// consumed, and Calm where a reply is sure to be written soon.
func (s *session) consume(p []byte) (n int, next passthrough.Next) {
	switch {
	case s.deaf:
		return len(p), passthrough.Again
	case s.pipe:
		s.send(p, nil)
		return len(p), passthrough.Again
	case s.lane.Opaque():
		s.send(s.unsent(), nil)
		s.send(p, nil)
		s.pipe, s.within, s.command = true, false, nil
		return len(p), passthrough.Again
	case s.within:
		return s.collect(p)
	}
	s.batch.Clear()
	n, m, verdict := s.scan.Scan(p, &s.batch)
	if n > 0 {
		s.book()
		s.send(p[:n], &s.batch)
	}
	switch verdict {
	case passthrough.Odd:
		s.becomePipe("the client sent something that is no RESP", p[n:])
		return len(p), passthrough.Again
	case passthrough.Intercepted:
		s.command, s.within = append(s.command[:0], p[n:m]...), true
		k, next := s.collect(p[m:])
		return m + k, next
	}
	if n == len(p) && s.batch.Requests() > 0 && !s.batch.Restless() && !s.scan.Within() {
		return n, passthrough.Calm
	}
	return n, passthrough.Again
}

// book counts the requests of the batch as issued.
func (s *session) book() {
	if s.blocking && s.answered.Load() == s.issued {
		s.blocking = false
	}
	if s.batch.Renames() { // RESET also ends authentication
		s.peer, s.vetted = nil, false
	}
	s.issued += s.batch.Requests()
	s.blocking = s.blocking || s.batch.Blocking()
	if s.srv.cfg.Timeout > 0 {
		s.sent.Store(s.issued)
	}
}

// send writes p, which holds the requests of b (nil: none that count), to the
// lane. If Redis takes it no more the client learns so from the end of the
// replies.
func (s *session) send(p []byte, b *passthrough.Batch) {
	if s.deaf || len(p) == 0 {
		return
	}
	if err := s.lane.Send(s, p, b); err != nil {
		s.deaf = true
	}
}

// becomePipe steps aside: from held on, bytes pass unseen.
func (s *session) becomePipe(reason string, held []byte) {
	s.lane.Pipe(reason)
	s.pipe, s.within = true, false
	s.send(held, nil)
}

// becamePipe is told by the lane when it stops counting replies.
func (s *session) becamePipe(reason string) {
	s.srv.log.Info("connection relayed as a plain pipe from here on; KS commands are not available on it",
		"client", s.addr(), "reason", reason)
	s.wake()
}

// unvetted is how much of a command of ours is read from a client that may not
// be authenticated: Redis allows it 10 arguments and 16 KB.
const unvetted = 32 << 10

// collect reads on in a command of ours.
func (s *session) collect(p []byte) (n int, next passthrough.Next) {
	n, done, verdict := s.scan.Rest(p)
	s.command = append(s.command, p[:n]...)
	switch {
	case verdict == passthrough.Odd:
		s.becomePipe("the client sent something that is no RESP", append(s.command, p[n:]...))
		s.command = nil
		return len(p), passthrough.Again
	case done:
		s.within = false
		return n, passthrough.Stop
	}
	if len(s.command) > maxCommand {
		s.command, s.within, s.deaf = nil, false, true
		s.lane.Close()
		return len(p), passthrough.Again
	}
	if !s.vetted && len(s.command) >= unvetted {
		return n, passthrough.Stop
	}
	return n, passthrough.Again
}

// maxCommand is Redis's client-query-buffer-limit, beyond which it drops a client.
const maxCommand = 1 << 30

// relayReplies runs the lane, and passes its end on: to the client, which may take
// its time to read, and to the running command, which may take its time to return.
func (s *session) relayReplies(done chan<- struct{}) {
	defer close(done)
	err := s.runLane()
	if s.mid {
		s.mid = false
		s.frame.Unlock()
	}
	s.lane.Close()
	s.cancelCommand(errUpstream)
	s.wake()
	over := make(chan struct{})
	go s.endCommands(over)
	s.endReplies(err)
	<-over
}

func (s *session) runLane() error {
	defer s.recovered()
	return s.lane.Run()
}

// endReplies ends the client's stream as Redis's has ended.
func (s *session) endReplies(err error) {
	defer s.recovered()
	if !ended(err) && !s.ending.Load() {
		s.reset()
		return
	}
	s.closeWrite()
	s.setDeadline(time.Now().Add(lingerTimeout))
}

// endCommands waits for the running command, which is cancelled, and lets no more
// run: the client may still speak. What it was given for as long as the session
// lasts is taken back.
func (s *session) endCommands(done chan<- struct{}) {
	defer close(done)
	s.running.Lock()
	defer s.running.Unlock()
	s.over = true
	s.commandsEnded()
}

// commandsEnded tells the handler that the session has ended, or begins anew. No
// command of ours runs meanwhile: s.running is held, or they wait for the reply to
// a RESET.
func (s *session) commandsEnded() {
	defer s.recovered()
	if s.ran.Load() {
		s.srv.cfg.Handler.Ended(s)
	}
}

// ended reports whether err is the orderly end of a stream. A server that exits
// may leave out TLS's own goodbye.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// Reply takes replies from the lane.
func (s *session) Reply(p []byte, answered int64, mid bool) {
	if len(p) > 0 {
		s.relay(p, mid)
	}
	if answered > 0 && s.answered.Add(answered) == s.awaited.Load() {
		s.wake()
	}
}

// relay writes p to the client, and keeps others from writing within a frame.
func (s *session) relay(p []byte, mid bool) {
	if !s.mid {
		s.frame.Lock()
	}
	if !s.dead {
		if _, err := s.conn.Write(p); err != nil {
			s.dead = true
			s.lane.Close()
		}
	}
	if s.mid = mid; !mid {
		s.frame.Unlock()
	}
}

// wake tells a waiting barrier to look again.
func (s *session) wake() {
	select {
	case s.quiet <- struct{}{}:
	default:
	}
}

// clientEnded passes the end of the client's stream on to Redis and waits until
// Redis has taken note: what came before it is executed and answered.
func (s *session) clientEnded(err error) {
	switch {
	case s.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded):
		s.finishReplies()
	case errors.Is(err, io.EOF):
		s.send(append(s.unsent(), s.reader.Take()...), nil)
		s.lane.CloseWrite()
		<-s.lane.Done()
	default: // a reset, or Redis is gone and the client does not close
	}
	s.ending.Store(true)
	s.lane.Close()
}

// unsent returns the beginning of a command of ours that was never completed.
func (s *session) unsent() []byte {
	if !s.within {
		return nil
	}
	return s.command
}

// drain makes the session end once its replies in flight are through.
func (s *session) drain() {
	s.draining.Store(true)
	s.setDeadline(time.Unix(1, 0))
}

// finishReplies waits for the replies in flight and ends the client's stream.
func (s *session) finishReplies() {
	s.awaitQuiet(context.Background())
	s.closeWrite()
	s.conn.SetReadDeadline(time.Now().Add(goodbye))
	s.reader.Loop(func(p []byte) (int, passthrough.Next) { return len(p), passthrough.Again })
}

// goodbye is how long a client may take, at shutdown, to close after we did:
// closing with unread input would reset the connection and eat the last reply.
const goodbye = 200 * time.Millisecond

// closeWrite ends the stream of replies.
func (s *session) closeWrite() {
	if cw, ok := s.conn.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
}

// abort closes everything at once. The lane comes first: closing the socket
// waits for its reader, who may be writing to the lane.
func (s *session) abort() {
	s.ending.Store(true)
	if lane := s.shared.Load(); lane != nil {
		lane.Close()
	}
	s.socket.Conn.Close()
}

// reset closes the client's socket with a RST, as Redis's own was.
func (s *session) reset() {
	if tcp, ok := s.socket.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	s.socket.Conn.Close()
}

// setDeadline bounds the reading from the client.
func (s *session) setDeadline(t time.Time) {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if s.base.IsZero() || t.Before(s.base) {
		s.base = t
	}
	s.conn.SetReadDeadline(s.base)
}

// interruptReading makes a read of the client return; resumeReading allows
// reading again.
func (s *session) interruptReading() {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	s.conn.SetReadDeadline(time.Unix(1, 0))
}

func (s *session) resumeReading() {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	s.conn.SetReadDeadline(s.base)
}

// closeIfIdle closes the client if it has asked nothing for timeout.
func (s *session) closeIfIdle(now time.Time, timeout time.Duration) {
	issued, answered, attended := s.sent.Load(), s.answered.Load(), s.attended.Load()
	last := &s.idle
	if last.since.IsZero() || issued != last.issued || answered != last.answered || attended != last.attended || issued != answered {
		last.issued, last.answered, last.attended, last.since = issued, answered, attended, now
		return
	}
	lane := s.shared.Load()
	if lane == nil || lane.Opaque() || s.stop.Load() != nil || now.Sub(last.since) < timeout {
		return
	}
	if state := lane.State(); !state.Subscribed() && !state.Monitor {
		s.setDeadline(time.Unix(1, 0))
	}
}

// setKeepAlive sets the keep-alive period of a TCP connection.
func setKeepAlive(conn net.Conn, period time.Duration) {
	if sc, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = sc.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: period > 0, Idle: period, Interval: period / 3, Count: 3})
}

// rawConn returns access to the client's socket, nil if it has none.
func (s *session) rawConn() syscall.RawConn {
	raw, err := s.socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
