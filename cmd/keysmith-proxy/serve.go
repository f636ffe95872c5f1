package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
	"github.com/keysmith-proxy/keysmith-proxy/engine"
	"github.com/keysmith-proxy/keysmith-proxy/proxy"
)

const (
	// firstLook is how long the start waits for Redis to tell about itself.
	firstLook = time.Second
	// maxWaiters of KS commands at the same time; each takes about 10 KB.
	maxWaiters = 100_000

	// From the signal on: replies in flight get this long,
	drainReplies = 3 * time.Second
	// then the release of what clients held,
	drainReleases = time.Second
	// and in the end the process exits whatever is left.
	drainAll = 4500 * time.Millisecond
)

// daemon is a running proxy and what it runs on.
type daemon struct {
	cfg        *config
	log        *slog.Logger
	maxClients int // what the descriptors carry of maxclients

	listeners []proxy.Listener
	upstream  *upstream
	probe     *redis.Client // asks Redis about itself
	engine    *engine.Engine
	server    *proxy.Server
}

// serve runs the proxy until ctx ends, and stops it in order; then it returns nil.
// Its error says why the proxy can't start or go on.
func serve(ctx context.Context, c *config, log *slog.Logger) error {
	logRedisClient(log)
	threads := applyThreads(c)
	files, err := openFileLimit()
	if err != nil {
		return err
	}
	maxClients, err := clientLimit(c, files, log)
	if err != nil {
		return err
	}
	log.Info("keysmith-proxy starts", "version", versionLine(), "pid", os.Getpid(), "threads", threads, "maxclients", maxClients)
	for _, w := range c.warnings() {
		log.Warn(w.Error())
	}
	d := &daemon{cfg: c, log: log, maxClients: maxClients}
	if d.listeners, err = openListeners(ctx, c, log); err != nil {
		return err
	}
	if err := d.openUpstream(); err != nil {
		d.closeListeners()
		return err
	}
	defer d.closeUpstream()
	return d.run(ctx)
}

func (d *daemon) openUpstream() (err error) {
	c := d.cfg
	d.upstream = &upstream{url: c.upstream, tls: c.upstreamTLS, keepAlive: c.tcpKeepAlive}
	if c.upstream.scheme == "embedded" {
		if d.upstream.embedded, err = startEmbedded(); err != nil {
			return err
		}
		d.log.Warn("using an embedded Redis in memory: nothing is kept after exit, not for production; name a real one with --upstream redis://host:port")
	}
	d.probe = d.newClient()
	return nil
}

// newClient returns a client with the proxy's own credentials.
func (d *daemon) newClient() *redis.Client {
	user, password := d.cfg.credentials()
	return d.upstream.newClient(user, password)
}

func (d *daemon) closeUpstream() {
	d.probe.Close()
	if d.upstream.embedded != nil {
		d.upstream.embedded.close()
	}
}

func (d *daemon) closeListeners() {
	for _, l := range d.listeners {
		l.Close()
	}
}

// run serves until ctx ends or a listener fails.
func (d *daemon) run(ctx context.Context) error {
	for _, l := range d.listeners {
		d.log.Info("listening for clients", "addr", l.Addr().String(), "tls", l.TLS != nil)
	}
	facts, missed := d.look(ctx)
	if err := d.start(ctx, facts.timeout); err != nil {
		d.closeListeners()
		return err
	}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve() }()

	reaching, stopReaching := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		d.tell(reaching, facts, missed)
	}()

	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		d.log.Info("stopping: no new clients, replies in flight are finished", "reason", context.Cause(ctx), "clients", d.server.NumClients())
	}
	stopReaching()
	<-told
	d.stop()
	return err
}

// look asks Redis about itself; serving waits for that no longer than firstLook.
func (d *daemon) look(ctx context.Context) (upstreamFacts, error) {
	if d.upstream.embedded != nil {
		return embeddedFacts(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	facts, err := askUpstream(ctx, d.probe)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("no answer within %v", firstLook)
	}
	return facts, err
}

// start makes engine, commands and server of each other, and starts the engine.
func (d *daemon) start(ctx context.Context, upstreamTimeout time.Duration) error {
	c := d.cfg
	d.engine = engine.New(engine.Config{
		NewClient:  d.newClient,
		LockTTL:    c.lockTTL,
		LockWait:   c.lockWait,
		TagSplit:   c.tagSplit,
		MaxWaiters: maxWaiters,
		MaxLease:   d.maxLease(),
		KeySmith:   c.interop == "keysmith",
		Logger:     d.log,
	})
	// The engine outlives ctx: it releases locks while the proxy stops.
	if err := d.engine.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	d.server = proxy.New(proxy.Config{
		Listeners:       d.listeners,
		Dial:            d.upstream.dial,
		UpstreamLocal:   c.upstream.local(ctx),
		ProtectedMode:   c.protectedMode,
		Handler:         commands.New(d.engine),
		MaxClients:      d.maxClients,
		Timeout:         c.timeout,
		KeepAlive:       c.tcpKeepAlive,
		UpstreamTimeout: upstreamTimeout,
		Logger:          d.log,
	})
	return nil
}

// maxLease is what miniredis can count, in nanoseconds, with room to spare; Redis itself has no such bound.
func (d *daemon) maxLease() time.Duration {
	if d.upstream.embedded == nil {
		return 0
	}
	return 50 * 365 * 24 * time.Hour
}

// tell logs what look has found out about Redis, or what there is to find out once
// it is reached, and how to try the proxy.
func (d *daemon) tell(ctx context.Context, facts upstreamFacts, missed error) {
	if missed != nil {
		var err error
		if facts, err = reachUpstream(ctx, d.cfg, d.probe, d.log, missed); err != nil {
			return
		}
		d.server.SetUpstreamTimeout(facts.timeout)
	}
	facts.report(d.cfg, d.maxClients, d.log)
	if facts.credentials != nil {
		d.log.Info("ready, but for KS commands")
		return
	}
	d.log.Info("ready; to try it: " + tryIt(d.cfg, d.listeners))
}

// stop ends everything in order, within drainAll: the server lets replies in
// flight finish, then the engine releases what clients held.
func (d *daemon) stop() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		replies, cancel := context.WithTimeout(context.Background(), drainReplies)
		defer cancel()
		if err := d.server.Shutdown(replies); err != nil {
			d.log.Warn("clients were cut off before their replies were finished", "err", err)
		}
		releases, cancel := context.WithTimeout(context.Background(), drainReleases)
		defer cancel()
		if err := d.engine.Close(releases); err != nil {
			d.log.Warn("not all locks of clients could be released, they run out", "err", err)
		}
	}()
	select {
	case <-stopped:
		d.log.Info("stopped")
	case <-time.After(drainAll):
		d.log.Warn("stopping took too long, exiting with work undone")
	}
}
