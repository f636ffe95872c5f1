package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

// shutdown shuts the server down and returns what Shutdown returned.
func (r *rig) shutdown(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(ctx) }()
	return done
}

func TestShutdownEndsServe(t *testing.T) {
	r := start(t)
	r.pair()
	done := r.shutdown(context.Background())
	if err := wait(t, r.served, "Serve"); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if err := wait(t, done, "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if conn, err := net.Dial("tcp", r.addr); err == nil {
		conn.Close()
		t.Error("it still accepts")
	}
}

func TestShutdownAnswersAWaitingCommand(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("KS.WAIT"))
	r.began()
	done := r.shutdown(context.Background())
	r.endsWith(commands.ErrShutdown)
	client.expect("-CAUSE " + commands.ErrShutdown.Error() + "\r\n")
	client.expectFIN()
	client.close()
	if err := wait(t, done, "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	redis.end()
}

// What was read from the client is still run; our commands don't wait any more.
func TestShutdownRunsWhatWasReadAhead(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("KS.WAIT") + ping + resp("KS.WAIT") + resp("KS.NOW"))
	r.began()
	done := r.shutdown(context.Background())
	redis.expect(ping)
	redis.send(pong)
	ends := "-CAUSE " + commands.ErrShutdown.Error() + "\r\n"
	client.expect(ends + pong + ends + "+done\r\n")
	client.expectFIN()
	client.close()
	if err := wait(t, done, "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

func TestShutdownLetsRepliesInFlightFinish(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("GET big\r\nGET b\r\n")
	redis.expect("GET big\r\nGET b\r\n")
	big := bulk(strings.Repeat("x", 8<<20))
	redis.send(big[:100])
	client.expect(big[:100])
	done := r.shutdown(context.Background())
	wait(t, r.served, "Serve")
	sent := redis.sendAside(big[100:] + bulk("b")) // more than sockets take
	client.expect(big[100:] + bulk("b"))
	wait(t, sent, "Redis to send")
	client.expectFIN()
	client.close()
	if err := wait(t, done, "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	redis.end()
}

func TestShutdownCutsOffWhatDoesNotFinishInTime(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("BLPOP k 0\r\n")
	redis.expect("BLPOP k 0\r\n")
	ctx, cancel := context.WithCancel(context.Background())
	done := r.shutdown(ctx)
	wait(t, r.served, "Serve")
	cancel()
	if err := wait(t, done, "Shutdown"); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returned %v", err)
	}
	client.end()
	redis.end()
}

// The client does not close, and never sends another byte.
func TestShutdownDoesNotWaitForIdleClients(t *testing.T) {
	r := start(t)
	for range 20 {
		client, redis := r.pair()
		client.send(ping)
		redis.expect(ping)
		redis.send(pong)
		client.expect(pong)
	}
	if err := wait(t, r.shutdown(context.Background()), "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

func TestShutdownBeforeServeAndTwice(t *testing.T) {
	l := listen(t)
	s := New(Config{Listeners: []Listener{{Listener: l}}, Handler: newScript()})
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	if err := wait(t, served, "Serve"); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown again returned %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the listener is open")
	}
}

// A dial that hangs is given up.
func TestShutdownEndsASessionThatStillDials(t *testing.T) {
	dialling := make(chan struct{}, 1)
	r := start(t, func(c *Config) {
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			dialling <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	client := r.dial()
	wait(t, dialling, "the dial")
	if err := wait(t, r.shutdown(context.Background()), "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	client.end()
}

// Sessions come and go while it shuts down: nobody is forgotten.
func TestShutdownWhileClientsComeAndGo(t *testing.T) {
	r := start(t)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			conn, err := net.DialTimeout("tcp", r.addr, patience)
			if err != nil {
				return
			}
			conn.Write([]byte(ping + resp("KS.NOW") + ping))
			conn.Close()
		}
	}()
	for range 20 {
		redis := r.upstream()
		redis.close()
	}
	go func() {
		for conn := range r.upstreams {
			conn.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	if err := wait(t, r.shutdown(ctx), "Shutdown"); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	close(stop)
	wait(t, stopped, "the clients")
	if n := r.server.NumClients(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}
