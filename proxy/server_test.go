package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

func TestClientsBeyondTheMaximumAreToldAsRedisTells(t *testing.T) {
	r := start(t, func(c *Config) { c.MaxClients = 2 })
	first, redis := r.pair()
	r.pair()
	third := r.dial()
	if text, _ := third.end(); text != "-ERR max number of clients reached\r\n" {
		t.Errorf("the third client got %q", text)
	}
	first.close()
	redis.close()
	eventually(t, "the first session to end", func() bool { return r.server.NumClients() == 1 })
	fourth, redis := r.pair()
	fourth.send(ping)
	redis.expect(ping)
	redis.send(pong)
	fourth.expect(pong)
}

// As if nobody listened: the client gets no reply that Redis did not give.
func TestClientIsResetWhereRedisCannotBeReached(t *testing.T) {
	r := start(t, func(c *Config) {
		c.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }
	})
	conn, err := net.Dial("tcp", r.addr) // which may fail already
	if err == nil {
		newPeer(t, "client", conn).expectReset()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connect: %v", err)
	}
	r.empty()
	if !r.log.contains("connection refused") {
		t.Error("the reason is not logged")
	}
}

func TestDialIsGivenAContextThatEnds(t *testing.T) {
	deadline := make(chan time.Time, 1)
	r := start(t, func(c *Config) {
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			at, _ := ctx.Deadline()
			deadline <- at
			return nil, errors.New("refused")
		}
	})
	began := time.Now()
	if conn, err := net.Dial("tcp", r.addr); err == nil {
		defer conn.Close()
	}
	if at := wait(t, deadline, "the dial"); at.Before(began) || at.After(time.Now().Add(dialTimeout)) {
		t.Errorf("the dial may last until %v, %v after it began", at, at.Sub(began))
	}
}

func TestIdleClientsAreClosed(t *testing.T) {
	r := start(t, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	client, redis := r.pair()
	client.expectFIN()
	redis.end()
	r.empty()
}

// As in Redis, whoever waits, listens or monitors is not idle.
func TestClientsThatWaitAreNotIdle(t *testing.T) {
	const timeout = 20 * time.Millisecond
	r := start(t, func(c *Config) { c.Timeout = timeout })
	type waiting struct{ client, redis *peer }
	var all []waiting
	for _, c := range []struct{ request, reply string }{
		{"BLPOP k 0\r\n", ""},
		{"SUBSCRIBE a\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"},
		{"HELLO 3\r\nSUBSCRIBE a\r\n", hello3 + ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"},
		{"MONITOR\r\n", "+OK\r\n"},
		{"KS.WAIT word\r\n", ""},
	} {
		client, redis := r.pair()
		client.send(c.request)
		if c.request == "KS.WAIT word\r\n" {
			r.began()
		} else {
			redis.expect(c.request)
			redis.send(c.reply)
			client.expect(c.reply)
		}
		all = append(all, waiting{client, redis})
	}
	for range 5 { // five idle clients come and go meanwhile, one after the other
		idle, redis := r.pair()
		idle.expectFIN()
		redis.close()
	}
	message := "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
	for _, w := range all[:4] {
		w.redis.send(message)
		w.client.expect(message)
	}
	r.handler.release <- struct{}{}
	all[4].client.expect("+word\r\n")
}

// A client that runs only commands of ours sends Redis nothing, and is not idle.
func TestCommandsOfOursKeepAClientFromBeingIdle(t *testing.T) {
	const timeout = 200 * time.Millisecond
	r := start(t, func(c *Config) { c.Timeout = timeout })
	client, _ := r.pair()
	tick := time.NewTicker(timeout / 20)
	defer tick.Stop()
	for end := time.Now().Add(4 * timeout); time.Now().Before(end); <-tick.C {
		client.send(resp("KS.NOW"))
		client.expect("+done\r\n")
	}
}

// A remoteListener's clients come from afar.
type remoteListener struct{ net.Listener }

func (l remoteListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return remoteConn{conn.(*net.TCPConn)}, nil
}

type remoteConn struct{ *net.TCPConn }

func (remoteConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711}
}

func TestProtectedModeKeepsRemoteClientsFromAnOpenLocalRedis(t *testing.T) {
	remote := func(c *Config) {
		c.Listeners[0].Listener = remoteListener{c.Listeners[0].Listener}
	}
	protected := func(c *Config) { c.ProtectedMode, c.UpstreamLocal = true, true }
	t.Run("refused", func(t *testing.T) {
		r := start(t, remote, protected)
		client, redis := r.pair()
		redis.expect(ping)
		redis.send(pong)
		if text, _ := client.end(); text != denied || !strings.HasPrefix(text, "-DENIED Redis is running in protected mode") {
			t.Errorf("client got %.100q", text)
		}
		r.empty()
	})
	t.Run("Redis wants a password", func(t *testing.T) {
		r := start(t, remote, protected)
		client, redis := r.pair()
		redis.expect(ping)
		redis.send("-NOAUTH Authentication required.\r\n")
		client.send(ping)
		redis.expect(ping)
		redis.send("-NOAUTH Authentication required.\r\n")
		client.expect("-NOAUTH Authentication required.\r\n")
	})
	for name, options := range map[string][]func(*Config){
		"a local client": {protected},
		"switched off":   {remote, protected, func(c *Config) { c.ProtectedMode = false }},
		"a remote Redis": {remote, protected, func(c *Config) { c.UpstreamLocal = false }},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options...)
			client, redis := r.pair()
			client.send("GET k\r\n")
			redis.expect("GET k\r\n") // nothing is asked before
			redis.send(bulk("v"))
			client.expect(bulk("v"))
		})
	}
}

// brokenListener fails in a way that does not pass.
type brokenListener struct{ net.Listener }

func (l brokenListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }

func TestServeReturnsWhyAListenerFailed(t *testing.T) {
	s := New(Config{Listeners: []Listener{{Listener: brokenListener{listen(t)}}}, Handler: newScript()})
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	if err := wait(t, served, "Serve"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

// exhausted fails as if descriptors had run out, twice.
type exhausted struct {
	net.Listener
	failures chan struct{}
}

func (l exhausted) Accept() (net.Conn, error) {
	select {
	case <-l.failures:
		return nil, errors.New("too many open files")
	default:
		return l.Listener.Accept()
	}
}

func TestServerSurvivesAFailureToAccept(t *testing.T) {
	failures := make(chan struct{}, 2)
	failures <- struct{}{}
	failures <- struct{}{}
	r := start(t, func(c *Config) { c.Listeners[0].Listener = exhausted{c.Listeners[0].Listener, failures} })
	client, redis := r.pair()
	client.send(ping)
	redis.expect(ping)
	if !r.log.contains("too many open files") {
		t.Error("the failure is not logged")
	}
}

func TestTLSClientsAreServedAlike(t *testing.T) {
	config, roots := certificate(t)
	l := listen(t)
	r := start(t, func(c *Config) { c.Listeners = append(c.Listeners, Listener{Listener: l, TLS: config}) })
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	client, redis := newPeer(t, "client", conn), r.upstream()
	value := bulk(strings.Repeat("v", 1<<20))
	client.send(strings.Repeat("GET v\r\n", 8) + resp("KS.WAIT", "word") + ping)
	redis.expect(strings.Repeat("GET v\r\n", 8))
	redis.send(strings.Repeat(value, 8))
	r.began() // though the client reads nothing
	r.handler.release <- struct{}{}
	r.endsWith(nil)
	redis.expect(ping)
	redis.send(pong)
	client.expect(strings.Repeat(value, 8) + "+word\r\n" + pong)
	client.send(resp("KS.WAIT"))
	r.began()
	client.finish()
	r.endsWith(commands.ErrHangUp)
	redis.end()
	redis.close()
	if text, err := client.end(); text != "-CAUSE "+commands.ErrHangUp.Error()+"\r\n" || err != nil {
		t.Errorf("client got %q, %v", text, err)
	}
	r.empty()
}

func TestClientThatSpeaksNoTLSIsDropped(t *testing.T) {
	config, _ := certificate(t)
	r := start(t, func(c *Config) { c.Listeners[0].TLS = config })
	client := r.dial()
	client.send("PING\r\n")
	client.end()
	r.empty()
}
