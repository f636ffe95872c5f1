package proxy

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
	"github.com/keysmith-proxy/keysmith-proxy/engine"
	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

const (
	// readAhead is how much is read from a client while a command of ours waits.
	readAhead = 64 << 10
	// watchAfter is how long a command may run before its client is watched.
	watchAfter = 10 * time.Millisecond
	// watchEvery is how often a client is looked at behind unread input. Together
	// they keep the promise that a hang-up is noticed within 100 ms.
	watchEvery = 50 * time.Millisecond
)

var errUpstream = commands.ErrUpstreamLost

// attend runs the command of ours that consume has collected, after all
// replies in flight and before anything that follows.
func (s *session) attend() {
	s.attended.Add(1)
	args := passthrough.ParseRequest(s.command) // nil while it is not complete
	coupled := s.coupled(args)
	s.socket.Spill(true)
	defer s.socket.Spill(false)
	ctx, cancel := context.WithCancelCause(s.srv.ctx)
	defer cancel(nil)
	s.stop.Store(&cancel)
	defer s.stop.Store(nil)
	w := s.watch(cancel)
	defer w.end()
	if !s.awaitQuiet(ctx) {
		return
	}
	if !s.lane.State().Off { // else nobody knows whether Redis is still blocking
		s.blocking = false
	}
	if !s.vetted && (s.within || oversize(args)) && !s.vet() {
		return
	}
	if s.within {
		return
	}
	s.dispatch(ctx, args, coupled)
	if cap(s.command) > smallCommand {
		s.command = nil
	}
}

// smallCommand is the size of the buffer that a session keeps for commands of ours.
const smallCommand = 1 << 10

// awaitQuiet waits until no reply is in flight, or until they can't be counted.
// It reports false if the session is over: Redis is lost, or the client hung
// up (ctx) while Redis may be blocking for it.
func (s *session) awaitQuiet(ctx context.Context) bool {
	s.awaited.Store(s.issued)
	defer s.awaited.Store(-1)
	hangUp := ctx.Done()
	for s.answered.Load() < s.issued && !s.lane.Opaque() {
		select {
		case <-s.quiet:
		case <-s.lane.Done():
			s.deaf = true
			return false
		case <-hangUp:
			if s.blocking && errors.Is(context.Cause(ctx), commands.ErrHangUp) {
				s.deaf = true
				s.lane.CloseWrite()
				return false
			}
			hangUp = nil
		}
	}
	return true
}

// dispatch answers the collected command where it can be run, and leaves it to
// Redis where the connection is in a state in which Redis would not run it.
func (s *session) dispatch(ctx context.Context, args [][]byte, coupled *train) {
	state := s.lane.State()
	switch {
	case s.lane.Opaque():
		s.pipe = true
		s.send(s.command, nil)
	case state.Multi:
		s.batch.Clear()
		s.batch.AddPlain()
		s.book()
		s.send(s.command, &s.batch)
	case state.Subscriber():
		s.answer(state, "-ERR Can't execute '"+name(args)+"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n")
	case state.Monitor:
		s.answer(state, "-ERR Replica can't interact with the keyspace\r\n")
	default:
		if coupled != nil && !state.Off && !state.Skip && !state.Unsure && s.hits(coupled) {
			return
		}
		s.execute(ctx, state, args)
	}
}

// name returns the command's name as Redis shows it in errors.
func name(args [][]byte) string {
	if len(args) == 0 {
		return ""
	}
	return strings.ToLower(string(args[0]))
}

// answer replies line, unless the client has switched replies off. One that
// only skips a reply has had it skipped.
func (s *session) answer(state passthrough.State, line string) {
	if state.Skip && s.lane.SwitchReplies(true) != nil {
		return
	}
	if !state.Off && !state.Skip {
		s.write([]byte(line))
	}
}

// write writes a reply of ours, which nobody changes, between the frames that Redis
// sends. An error shows up where the client is read.
func (s *session) write(reply []byte) {
	s.frame.Lock()
	defer s.frame.Unlock()
	if s.tls != nil {
		s.conn.Write(reply)
		return
	}
	s.socket.WriteKept(reply)
}

// execute runs the command with replies from Redis switched on.
func (s *session) execute(ctx context.Context, state passthrough.State, args [][]byte) {
	silent := state.Off || state.Skip
	if silent && !s.switchOn(ctx) {
		return
	}
	reply := []byte(nil)
	if err := s.learn(ctx, state); err != nil {
		reply = []byte("-" + err.Error() + "\r\n")
	} else {
		reply = s.handle(ctx, args)
	}
	if state.Off {
		s.lane.SwitchReplies(false)
	}
	if !silent && !s.orphaned() {
		s.write(reply)
	}
}

// switchOn switches Redis's replies on, which takes as long as Redis blocks for
// what was sent while they were off. A client that hangs up meanwhile is gone
// for Redis, too.
func (s *session) switchOn(ctx context.Context) bool {
	if s.blocking {
		defer context.AfterFunc(ctx, func() { s.lane.CloseWrite() })()
	}
	s.blocking = s.lane.SwitchReplies(true) != nil
	return !s.blocking
}

// orphaned reports whether Redis was lost while a command of ours ran. Then
// nobody knows what has run, and no reply is made up for it.
func (s *session) orphaned() bool {
	select {
	case <-s.lane.Done():
		return true
	default:
		return s.unheard.Load()
	}
}

func (s *session) handle(ctx context.Context, args [][]byte) []byte {
	s.running.Lock()
	defer s.running.Unlock()
	if s.over {
		return nil // and nothing is written, see orphaned
	}
	s.ran.Store(true)
	p := s.keepAlive()
	defer p.end()
	return s.srv.cfg.Handler.Run(ctx, s, args, nil)
}

// learn asks Redis for the database and protocol of the connection, if they may
// have changed while replies were off.
func (s *session) learn(ctx context.Context, state passthrough.State) error {
	if !state.Unsure {
		return nil
	}
	v, err := s.Do(ctx, "CLIENT", "INFO")
	if err != nil {
		return err
	}
	info := parseClientInfo(v)
	s.lane.Learn(info.db, info.resp)
	return nil
}

// oversize reports whether Redis would refuse the request of a client that is not
// authenticated for its size (authRequired in networking.c).
func oversize(args [][]byte) bool {
	if len(args) > 10 {
		return true
	}
	for _, arg := range args {
		if len(arg) > 16<<10 {
			return true
		}
	}
	return false
}

// vet finds out whether a client that sends a large command is authenticated.
// If not, it reports false: Redis refuses the command in its own words, as soon
// as it sees its size.
func (s *session) vet() bool {
	s.vetted = true
	if state := s.lane.State(); s.lane.Opaque() || state.Multi || state.Monitor || state.Off || state.Skip || state.Subscriber() {
		return true // it got there authenticated; and a PING would not come back to us
	}
	if _, err := s.lane.Do("PING"); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		return true
	}
	s.becomePipe("a large command before authentication", s.command)
	return false
}

// Do sends one command on the client's own lane. The session ends if it isn't
// answered.
func (s *session) Do(_ context.Context, args ...any) (any, error) {
	v, err := s.lane.Do(args...)
	var refused passthrough.Error
	if errors.As(err, &refused) {
		return nil, engine.RedisError(refused)
	}
	if err != nil {
		return nil, s.lost()
	}
	return v, nil
}

// Exchange sends several commands on the client's own lane, and ends the session as
// Do does.
func (s *session) Exchange(_ context.Context, asked ...[]any) ([][]byte, error) {
	var p []byte
	for _, args := range asked {
		p = passthrough.AppendCommand(p, args...)
	}
	return s.exchange(p, len(asked))
}

// exchange is Exchange for n commands that stand in p.
func (s *session) exchange(p []byte, n int) ([][]byte, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	replies, err := s.lane.Exchange(p, n)
	if err != nil {
		return nil, s.lost()
	}
	return replies, nil
}

// lost ends the session, as Redis has not answered what a command of ours asked.
func (s *session) lost() error {
	s.unheard.Store(true)
	s.lane.Close()
	return commands.ErrUpstreamLost
}

// Watching reports whether the client has keys WATCHed.
func (s *session) Watching() bool { return s.lane.State().Watched }

// DB is the database that the client has selected.
func (s *session) DB() int { return s.lane.State().DB }

// RESP is the protocol version that the client speaks.
func (s *session) RESP() int { return s.lane.State().RESP }

// cancelCommand ends the running command, if there is one.
func (s *session) cancelCommand(cause error) {
	if cancel := s.stop.Load(); cancel != nil {
		(*cancel)(cause)
	}
}

// A watch notices that the client hangs up while a command waits.
type watch struct {
	s      *session
	cancel context.CancelCauseFunc
	timer  *time.Timer
	over   chan struct{}
	ended  chan struct{}
}

// watch starts to watch the client in a while; most commands are done by then.
func (s *session) watch(cancel context.CancelCauseFunc) *watch {
	w := &watch{s: s, cancel: cancel, over: make(chan struct{}), ended: make(chan struct{})}
	select {
	case <-s.lane.Done():
		cancel(commands.ErrUpstreamLost)
	default:
	}
	w.timer = time.AfterFunc(watchAfter, w.run)
	return w
}

// end stops the watch; what it has read is left for the reader's next Loop.
func (w *watch) end() {
	if w.timer.Stop() {
		return
	}
	close(w.over)
	w.s.interruptReading()
	<-w.ended
	w.s.resumeReading()
}

// run reads ahead, up to a bound, and then only looks for the hang-up.
func (w *watch) run() {
	defer close(w.ended)
	ahead := newLookahead(w.s)
	defer ahead.end()
	err := w.s.reader.Loop(func(p []byte) (int, passthrough.Next) {
		ahead.look(p)
		if len(p) < readAhead {
			return 0, passthrough.Again
		}
		return 0, passthrough.Stop
	})
	switch {
	case err == nil:
		w.look()
	case !errors.Is(err, os.ErrDeadlineExceeded):
		w.cancel(commands.ErrHangUp)
	}
}

func (w *watch) look() {
	raw := w.s.rawConn()
	if raw == nil {
		return
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.over:
			return
		case <-tick.C:
			if hungUp(raw) {
				w.cancel(commands.ErrHangUp)
				return
			}
		}
	}
}

// A pinger keeps Redis from closing the lane of a client that waits in a command of
// ours: to Redis it is idle.
type pinger struct {
	s     *session
	every time.Duration
	mu    sync.Mutex // held during a PING; guards over and timer
	over  bool
	timer *time.Timer
}

func (s *session) keepAlive() *pinger {
	p := &pinger{s: s, every: time.Duration(s.srv.upstreamTimeout.Load()) / 3}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every > 0 {
		p.timer = time.AfterFunc(p.every, p.ping)
	}
	return p
}

func (p *pinger) ping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	if err := p.s.ping(); errors.Is(err, passthrough.ErrBroken) {
		return
	}
	p.timer.Reset(p.every)
}

// ping shows Redis that the client is there; not within a transaction of a command
// of ours, which is about to end and would have the PING in it.
func (s *session) ping() error {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.lane.State().Multi {
		return nil
	}
	_, err := s.lane.Do("PING")
	return err
}

func (p *pinger) end() {
	if p.timer == nil || p.timer.Stop() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}
