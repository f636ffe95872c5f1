package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

const (
	// dialTimeout bounds the dial of a client's lane. Jedis gives up after 2 s.
	dialTimeout = 2 * time.Second
	// handshakeTimeout bounds a client's TLS handshake.
	handshakeTimeout = 10 * time.Second
	// lingerTimeout is how long a client may take to close after Redis did.
	lingerTimeout = 2 * time.Second
	// defaultMaxClients is Redis's default.
	defaultMaxClients = 10000
	// defaultUpstreamTimeout is taken for Redis's own timeout where it is unknown.
	defaultUpstreamTimeout = time.Minute
)

// A Server accepts clients and relays them to Redis.
type Server struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // ends with commands.ErrShutdown
	cancel context.CancelCauseFunc

	upstreamTimeout atomic.Int64 // Redis's own timeout, see SetUpstreamTimeout

	mu       sync.Mutex // guards sessions and draining
	sessions map[*session]struct{}
	draining bool

	group sync.WaitGroup // sessions and acceptors
}

// New returns a server that owns cfg's listeners and serves nobody yet.
func New(cfg Config) *Server {
	if cfg.MaxClients == 0 {
		cfg.MaxClients = defaultMaxClients
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, sessions: make(map[*session]struct{})}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.SetUpstreamTimeout(cfg.UpstreamTimeout)
	return s
}

// SetUpstreamTimeout replaces Config.UpstreamTimeout for commands that start to
// wait from now on; it may have been asked for only after the start.
func (s *Server) SetUpstreamTimeout(d time.Duration) {
	if d < 0 {
		d = defaultUpstreamTimeout
	}
	s.upstreamTimeout.Store(int64(d))
}

// Serve accepts clients until Shutdown, and then returns nil, or until a
// listener fails. In either case it returns without waiting for the clients.
func (s *Server) Serve() error {
	failed := make(chan error, len(s.cfg.Listeners))
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return nil
	}
	for _, l := range s.cfg.Listeners {
		s.group.Go(func() { failed <- s.accept(l) })
	}
	if s.cfg.Timeout > 0 {
		s.group.Go(s.closeIdle)
	}
	s.mu.Unlock()
	select {
	case err := <-failed:
		if s.ctx.Err() != nil {
			return nil
		}
		return err
	case <-s.ctx.Done():
		return nil
	}
}

// accept serves the clients of one listener.
func (s *Server) accept(l Listener) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.welcome(conn, l)
		case s.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, or the client is gone already
			s.log.Warn("accept failed", "addr", l.Addr().String(), "err", err)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// welcome starts a session for conn, or says why not as Redis would.
func (s *Server) welcome(conn net.Conn, l Listener) {
	ss := newSession(s, conn, l.TLS)
	s.mu.Lock()
	full := len(s.sessions) >= s.cfg.MaxClients
	if full || s.draining {
		s.mu.Unlock()
		if full && l.TLS == nil {
			refuse(conn, "-ERR max number of clients reached\r\n")
		}
		conn.Close()
		return
	}
	s.sessions[ss] = struct{}{}
	s.group.Add(1)
	s.mu.Unlock()
	go ss.run()
}

// refuse writes a last line to a client that is not served, if that needs no waiting.
func refuse(conn net.Conn, line string) {
	conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	conn.Write([]byte(line))
}

// left forgets a session that has ended.
func (s *Server) left(ss *session) {
	s.mu.Lock()
	delete(s.sessions, ss)
	s.mu.Unlock()
	s.group.Done()
}

// NumClients is the number of clients connected.
func (s *Server) NumClients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Shutdown stops accepting, ends waiting commands with commands.ErrShutdown, lets
// replies in flight finish until ctx ends, then closes every connection. It
// returns when no goroutine of the server is left: nil, or ctx's error if it
// had to cut clients off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.cancel(commands.ErrShutdown)
	open := s.open()
	s.mu.Unlock()
	for _, l := range s.cfg.Listeners {
		l.Close()
	}
	for _, ss := range open {
		ss.drain()
	}
	done := make(chan struct{})
	go func() {
		s.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, ss := range open {
		ss.abort()
	}
	<-done
	return ctx.Err()
}

// open returns the sessions; s.mu is held.
func (s *Server) open() []*session {
	open := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		open = append(open, ss)
	}
	return open
}

// closeIdle closes clients that asked nothing for Config.Timeout, with the
// exceptions that Redis makes: whoever waits or is subscribed.
func (s *Server) closeIdle() {
	tick := time.NewTicker(min(time.Second, s.cfg.Timeout))
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			s.mu.Lock()
			open := s.open()
			s.mu.Unlock()
			for _, ss := range open {
				ss.closeIfIdle(now, s.cfg.Timeout)
			}
		}
	}
}
