package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	mrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Config says how an Engine behaves.
type Config struct {
	// NewClient returns a go-redis client with the proxy's own credentials and database 0. It is called
	// three times: for commands, for the inbox and for memo notifications, which must not share a
	// connection because Redis cuts off a subscriber that lags; and again for commands when their connections are on
	// another Redis than the callers' (moved). The Engine closes them.
	NewClient func() *redis.Client

	LockTTL    time.Duration // lease of callers who name none; default 30 s
	LockWait   time.Duration // how long callers who don't say wait; 0: as long as it takes
	TagSplit   string        // which ':' ends the tag of a name, "first" (default) or "last"
	MaxWaiters int           // default 100000
	KeySmith   bool          // also listen to the hand-offs of KeySmith for .NET
	MaxLease   time.Duration // longer ones are cut; 0: none is. For a Redis that can't count that far

	Logger *slog.Logger // default: discards
}

// Engine grants the locks and promises of one proxy. Start it once, Close it once.
type Engine struct {
	cfg      Config
	log      *slog.Logger
	instance string // of this process: part of every attempt and of the inbox's name

	own    *ownClient
	moved  moved
	inbox  subscription
	notif  *notifications
	ready  *readiness
	leaver *leaver
	claims *lookout
	copies *lookout
	flight flights
	holds  *holds
	ahead  *ahead

	agreement *agreement

	waiters *waiters
	fence   atomic.Int64 // highest that was seen; fences rise even if Redis's clock does not

	run  context.Context // ends at Close
	stop context.CancelFunc
	last atomic.Pointer[context.Context] // bounds what is done during Close

	joining sync.Mutex // guards closed, and so running against a Go that races with Wait
	closed  bool
	running sync.WaitGroup
}

// New returns an Engine that has no connection yet.
func New(cfg Config) *Engine {
	if cfg.LockTTL == 0 {
		cfg.LockTTL = 30 * time.Second
	}
	if cfg.TagSplit == "" {
		cfg.TagSplit = "first"
	}
	if cfg.MaxWaiters == 0 {
		cfg.MaxWaiters = 100_000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg:      cfg,
		log:      cfg.Logger,
		instance: newInstance(),
		own:      newOwnClient(cfg.NewClient),
		ready:    newReadiness(),
		waiters:  newWaiters(cfg.MaxWaiters),
		holds:    newHolds(cfg.LockTTL),
		ahead:    newAhead(),
	}
	e.agreement = newAgreement(cfg.TagSplit, cfg.Logger, e.lookAtAgreement)
	if cfg.KeySmith {
		e.waiters.named = map[string]map[uint64]*waiter{}
	}
	e.run, e.stop = context.WithCancel(context.Background())
	e.leaver = newLeaver(e.sendDepartures)
	e.claims = newLookout(claimsMost, func(l line) { e.leaver.add(l, departure{}) })
	e.copies = newLookout(copiesMost, e.lookAtCopy)
	e.flight = flights{again: map[line]flight{}}
	e.inbox = subscription{
		client:  cfg.NewClient(),
		channel: inboxPrefix + e.instance,
		up:      e.inboxUp,
		down:    e.inboxDown,
		message: e.inboxMessage,
		name:    "inbox",
		log:     e.log,
	}
	e.notif = newNotifications(e, cfg.NewClient())
	return e
}

// newInstance is letters and digits only: the scripts parse it.
func newInstance() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Start begins to connect and returns at once: while Redis is away the engine keeps trying, and calls
// are refused with an UnavailableError. ctx bounds nothing after Start has returned.
func (e *Engine) Start(context.Context) error {
	e.spawn(func() { e.inbox.run(e.run) })
	e.spawn(func() { e.notif.sub.run(e.run) })
	e.spawn(func() { e.notif.follow(e.run) })
	e.spawn(func() { e.leaver.run(e.run, e.lastContext) })
	e.spawn(func() { (&watchdog{e: e}).run(e.run) })
	e.spawn(func() { e.agreement.run(e.run) })
	return nil
}

// spawn runs f on a goroutine that Close joins; false once Close has begun.
func (e *Engine) spawn(f func()) bool {
	e.joining.Lock()
	defer e.joining.Unlock()
	if e.closed {
		return false
	}
	e.running.Go(f)
	return true
}

// lastContext bounds the departures that are sent during Close.
func (e *Engine) lastContext() context.Context {
	if ctx := e.last.Load(); ctx != nil {
		return *ctx
	}
	return e.run
}

// Close sends the departures of calls that are over, within ctx, joins the engine's goroutines and
// closes its connections. No call may be running or follow. If ctx ends first its error is returned,
// and what is still running ends with its connections.
func (e *Engine) Close(ctx context.Context) error {
	e.joining.Lock()
	e.closed = true
	e.joining.Unlock()
	e.last.Store(&ctx)
	e.stop()
	e.claims.close()
	e.copies.close()
	joined := make(chan struct{})
	go func() {
		e.running.Wait()
		close(joined)
	}()
	var late error
	select {
	case <-joined:
	case <-ctx.Done():
		late = context.Cause(ctx)
	}
	err := errors.Join(late, e.own.conn().client.Close(), e.inbox.client.Close(), e.notif.sub.client.Close())
	<-joined
	return err
}

// LockTTL and LockWait, in ms, are what callers get who name none.
func (e *Engine) LockTTL() int64  { return e.cfg.LockTTL.Milliseconds() }
func (e *Engine) LockWait() int64 { return e.cfg.LockWait.Milliseconds() }

// prepare checks whether the engine can serve a call on name, and says where its keys are. A caller that is not
// authenticated gets Redis's own words: the scripts have more arguments than Redis reads from one.
func (e *Engine) prepare(ctx context.Context, s Session, name string) (keys, line, error) {
	k, at, err := e.locate(s, name)
	if err == nil {
		_, err = s.Peer(ctx)
	}
	return k, at, err
}

// locate is prepare without a look at the caller.
func (e *Engine) locate(s Session, name string) (keys, line, error) {
	k, err := keysOf(name, e.cfg.TagSplit)
	if err != nil {
		return keys{}, line{}, err
	}
	if err := e.ready.check(); err != nil {
		return keys{}, line{}, err
	}
	if err := e.agreement.check(); err != nil {
		return keys{}, line{}, err
	}
	e.holds.awaitReleases(s)
	return k, line{s.DB(), name}, nil
}

// common are the arguments that every script on a line takes first.
func (e *Engine) common(l line, k keys) []any {
	return []any{"", l.db, e.instance, l.name, k.locknotif, e.LockTTL()}
}

// What a script wants done beside ringing waiters.
const (
	watchClaim    = 0
	ringObservers = -1
)

// ringLocal rings those of this proxy whom a script's reply names.
func (e *Engine) ringLocal(l line, rings []ring) {
	for _, r := range rings {
		switch r.seq {
		case watchClaim:
			e.claims.watch(l, claimWindow+leaseGrace+mrand.N(leaseJitter))
		case ringObservers:
			e.waiters.ringObservers(l)
		default:
			e.rung(bell{line: l, seq: uint64(r.seq), token: r.token})
		}
	}
}

// sawFence remembers the highest fence.
func (e *Engine) sawFence(n int64) {
	for {
		seen := e.fence.Load()
		if n <= seen || e.fence.CompareAndSwap(seen, n) {
			return
		}
	}
}
