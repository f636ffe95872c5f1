package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// realRedis is the address of the redis-server that the tests run beside miniredis; empty: not
// installed.
var realRedis string

func TestMain(m *testing.M) {
	stop, err := startRedis()
	if err != nil {
		fmt.Fprintln(os.Stderr, "redis-server:", err)
		if os.Getenv("CI") == "true" {
			os.Exit(1)
		}
	}
	code := m.Run()
	stop()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "leaked:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// startRedis starts a redis-server on a Unix socket of its own and sets realRedis.
func startRedis() (stop func(), err error) {
	dir, err := os.MkdirTemp("", "ks")
	if err != nil {
		return func() {}, err
	}
	socket := filepath.Join(dir, "redis.sock")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket,
		"--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning")
	if err := server.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return func() {}, err
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	defer c.Close()
	for range 500 {
		if c.Ping(context.Background()).Err() == nil {
			realRedis = socket
			return stop, nil
		}
		time.Sleep(10 * time.Millisecond) // no event tells that a server is up
	}
	stop()
	return func() {}, fmt.Errorf("did not come up")
}

// backend is a Redis that a test runs on.
type backend struct {
	t    *testing.T
	mini *miniredis.Miniredis // nil on the real one
	opt  redis.Options
	c    *redis.Client // the test's own, for looking and meddling

	ticking bool

	guards *Engine       // runs guarded commands of histories
	raw    *harness.Conn // on this
}

func onMiniredis(t *testing.T) *backend {
	mini := miniredis.RunT(t)
	return newBackend(t, mini, redis.Options{Addr: mini.Addr()})
}

// onRedis skips the test where there is no redis-server. The server is empty and as configured at start.
func onRedis(t *testing.T) *backend {
	if realRedis == "" {
		t.Skip("redis-server is not installed")
	}
	b := newBackend(t, nil, redis.Options{Network: "unix", Addr: realRedis})
	if err := b.c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return b
}

func newBackend(t *testing.T, mini *miniredis.Miniredis, opt redis.Options) *backend {
	b := &backend{t: t, mini: mini, opt: opt}
	b.c = b.client(func(*redis.Options) {})
	t.Cleanup(func() { b.c.Close() })
	return b
}

// onBoth runs test on miniredis and on the real Redis.
func onBoth(t *testing.T, test func(*testing.T, *backend)) {
	t.Run("miniredis", func(t *testing.T) { test(t, onMiniredis(t)) })
	t.Run("redis", func(t *testing.T) { test(t, onRedis(t)) })
}

// onBothWithin is onBoth for tests that return what something took, which tells one way from a slower one. A busy
// machine can make any time longer, so if one is more than most, the next two must not be.
func onBothWithin(t *testing.T, most time.Duration, test func(*testing.T, *backend) time.Duration) {
	t.Run("miniredis", func(t *testing.T) { within(t, most, onMiniredis, test) })
	t.Run("redis", func(t *testing.T) { within(t, most, onRedis, test) })
}

func within(t *testing.T, most time.Duration, on func(*testing.T) *backend, test func(*testing.T, *backend) time.Duration) {
	for i, more := 0, 1; i < more; i++ {
		var took time.Duration
		ok := t.Run(fmt.Sprint("try", i+1), func(t *testing.T) { took = test(t, on(t)) })
		switch {
		case !ok:
			return
		case took > most && i > 0:
			t.Errorf("took %v, want at most %v", took, most)
			return
		case took > most:
			t.Logf("took %v, want at most %v", took, most)
			more = 3
		}
	}
}

func (b *backend) client(change func(*redis.Options)) *redis.Client {
	opt := b.opt
	opt.DisableIdentity = true
	opt.MaxRetries = -1
	change(&opt)
	return redis.NewClient(&opt)
}

// do runs a command as the test itself; nil replies are nil.
func (b *backend) do(args ...any) any {
	b.t.Helper()
	reply, err := ownReply(b.c.Do(context.Background(), args...).Result())
	if err != nil {
		b.t.Fatalf("%v: %v", args, err)
	}
	return reply
}

// tick makes keys of miniredis age as they do in Redis.
func (b *backend) tick() {
	if b.mini == nil || b.ticking {
		return
	}
	b.ticking = true
	ticker, stop, stopped := time.NewTicker(5*time.Millisecond), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for last := time.Now(); ; {
			select {
			case now := <-ticker.C: // a slow ticker drops ticks
				b.mini.FastForward(now.Sub(last))
				last = now
			case <-stop:
				return
			}
		}
	}()
	b.t.Cleanup(func() {
		ticker.Stop()
		close(stop)
		<-stopped
	})
}

// testSession is a caller's session: one connection.
type testSession struct {
	conn *redis.Conn
	db   int
	peer Peer

	pushed chan []string // if not nil the client speaks RESP3
}

func (s *testSession) Do(_ context.Context, args ...any) (any, error) {
	return ownReply(s.conn.Do(context.Background(), args...).Result())
}

// Exchange: go-redis hides what Redis sent.
func (s *testSession) Exchange(context.Context, ...[]any) ([][]byte, error) {
	return nil, errors.New("no raw replies here")
}
func (s *testSession) Watching() bool                     { return false }
func (s *testSession) DB() int                            { return s.db }
func (s *testSession) Peer(context.Context) (Peer, error) { return s.peer, nil }

func (s *testSession) Push(elements ...string) bool {
	if s.pushed == nil {
		return false
	}
	s.pushed <- elements
	return true
}

// session returns a caller of database db, as user if given ("name", "password").
func (b *backend) session(db int, user ...string) *testSession {
	b.t.Helper()
	c := b.client(func(o *redis.Options) {
		o.DB = db
		if len(user) == 2 {
			o.Username, o.Password = user[0], user[1]
		}
	})
	conn := c.Conn()
	b.t.Cleanup(func() {
		conn.Close()
		c.Close()
	})
	return &testSession{conn: conn, db: db}
}

// engine returns a running engine.
func (b *backend) engine(change ...func(*Config)) *Engine {
	b.t.Helper()
	b.tick()
	cfg := Config{
		NewClient: func() *redis.Client { return b.client(func(*redis.Options) {}) },
		Logger:    slog.New(slog.NewTextHandler(b.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, f := range change {
		f(&cfg)
	}
	e := New(cfg)
	if err := e.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil && !strings.Contains(err.Error(), "closed") {
			b.t.Errorf("close: %v", err)
		}
	})
	if err := e.ready.check(); err != nil && len(change) == 0 {
		b.t.Fatal(err)
	}
	return e
}

// eventually waits for a condition that only Redis can tell.
func (b *backend) eventually(what string, cond func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			b.t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// inLine waits until n tokens stand in the line of a key.
func (b *backend) inLine(queue string, n int64) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d in %s", n, queue), func() bool { return b.do("LLEN", queue) == n })
}
