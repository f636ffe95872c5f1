package proxy

import (
	"context"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// startTable starts a rig that runs the real commands. What the engine asks on its own
// account goes elsewhere; Redis, as sessions see it, is the test's.
func startTable(t *testing.T) *rig {
	t.Helper()
	mini := miniredis.RunT(t)
	e := engine.New(engine.Config{NewClient: func() *redis.Client {
		return redis.NewClient(&redis.Options{Addr: mini.Addr(), DisableIdentity: true})
	}})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return start(t, func(c *Config) { c.Handler = commands.New(e) })
}

var (
	beginGuard = resp("WATCH", "n/lock") + resp("GET", "n/lock") + resp("MULTI")
	heldByT    = "+OK\r\n" + bulk("t") + "+OK\r\n"
	guardIncr  = resp("KS.GUARD", "n", "t", "INCR", "k")
	runIncr    = resp("INCR", "k") + resp("EXEC")
)

const (
	queued = "+QUEUED\r\n"
	lost   = "-LOCKLOST the token does not hold the lock on 'n', so nothing was run: get the lock again, and read again what the command was based on\r\n"
)

func TestGuardStandsInItsPlaceInTheOrder(t *testing.T) {
	client, redis := startTable(t).pair()
	client.send(ping + guardIncr + ping)
	redis.expect(ping)
	redis.send(pong)
	redis.expect(beginGuard)
	redis.send(heldByT)
	redis.expect(runIncr)
	redis.send(queued + "*1\r\n:9007199254740993\r\n")
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong + ":9007199254740993\r\n" + pong)
}

// A renewal touches the key that is watched.
func TestGuardTriesAgainAfterARenewal(t *testing.T) {
	client, redis := startTable(t).pair()
	client.send(guardIncr)
	for _, aborted := range []string{"*-1\r\n", "_\r\n"} {
		redis.expect(beginGuard)
		redis.send(heldByT)
		redis.expect(runIncr)
		redis.send(queued + aborted)
	}
	redis.expect(beginGuard)
	redis.send(heldByT)
	redis.expect(runIncr)
	redis.send(queued + "*1\r\n:1\r\n")
	client.expect(":1\r\n")
}

func TestGuardOfALockThatIsLostMeanwhile(t *testing.T) {
	client, redis := startTable(t).pair()
	client.send(guardIncr + ping)
	redis.expect(beginGuard)
	redis.send(heldByT)
	redis.expect(runIncr)
	redis.send(queued + "*-1\r\n")
	redis.expect(beginGuard)
	redis.send("+OK\r\n$-1\r\n+OK\r\n")
	redis.expect(resp("EXEC"))
	redis.send("*0\r\n")
	redis.expect(ping)
	redis.send(pong)
	client.expect(lost + pong)
}

// Redis before 7.2 sends pushes within the reply of EXEC; they are the client's.
func TestPushesWithinAGuardedReplyReachTheClient(t *testing.T) {
	client, redis := startTable(t).pair()
	client.send("HELLO 3\r\n" + guardIncr)
	redis.expect("HELLO 3\r\n")
	redis.send(hello3)
	redis.expect(beginGuard)
	redis.send(heldByT)
	redis.expect(runIncr)
	redis.send(queued + "*1\r\n" + push + ":1\r\n" + push)
	client.expect(hello3)
	want := map[bool]string{true: push + ":1\r\n" + push, false: push + push + ":1\r\n"}
	got := client.expectLine()
	for range strings.Count(want[true], "\n") - 1 {
		got += client.expectLine()
	}
	if got != want[true] && got != want[false] { // the push behind the reply is delivered as it comes
		t.Errorf("got %q", got)
	}
}

func TestGuardLeavesTheClientsOwnWatchAlone(t *testing.T) {
	const refused = "-ERR KS.GUARD is not allowed while keys are watched\r\n"
	client, redis := startTable(t).pair()
	client.send("WATCH k\r\n" + guardIncr + "MULTI\r\nEXEC\r\n" + guardIncr)
	redis.expect("WATCH k\r\n")
	redis.send("+OK\r\n")
	redis.expect("MULTI\r\nEXEC\r\n")
	redis.send("+OK\r\n*0\r\n")
	redis.expect(beginGuard)
	redis.send(heldByT)
	redis.expect(runIncr)
	redis.send(queued + "*1\r\n:1\r\n")
	client.expect("+OK\r\n" + refused + "+OK\r\n*0\r\n:1\r\n")
}

// Whether a WATCH that is not answered was taken is not known: it counts.
func TestGuardAfterASilentWatchIsRefused(t *testing.T) {
	client, redis := startTable(t).pair()
	client.send("CLIENT REPLY SKIP\r\nWATCH k\r\n" + guardIncr)
	redis.expect("CLIENT REPLY SKIP\r\nWATCH k\r\n")
	client.expect("-ERR KS.GUARD is not allowed while keys are watched\r\n")
}

func TestGuardUnderReplyOffRunsInSilence(t *testing.T) {
	for mode, back := range map[string]string{"OFF": resp("CLIENT", "REPLY", "OFF"), "SKIP": ""} {
		client, redis := startTable(t).pair()
		client.send(resp("CLIENT", "REPLY", mode) + guardIncr + resp("CLIENT", "REPLY", "ON"))
		redis.expect(resp("CLIENT", "REPLY", mode) + resp("CLIENT", "REPLY", "ON"))
		redis.send("+OK\r\n")
		redis.expect(beginGuard)
		redis.send(heldByT)
		redis.expect(runIncr)
		redis.send(queued + "*1\r\n:1\r\n")
		redis.expect(back + resp("CLIENT", "REPLY", "ON"))
		redis.send("+OK\r\n")
		client.expect("+OK\r\n")
	}
}

func TestGuardOnASessionThatIsLostAnswersNothing(t *testing.T) {
	for name, end := range map[string]func(*peer){
		"before it is known who holds": func(redis *peer) { redis.send("+OK\r\n") },
		"before the command is sent":   func(redis *peer) { redis.send(heldByT + "-ERR Protocol error\r\n") },
		"behind QUEUED": func(redis *peer) {
			redis.send(heldByT)
			redis.expect(runIncr)
			redis.send(queued)
		},
		"within the reply": func(redis *peer) {
			redis.send(heldByT)
			redis.expect(runIncr)
			redis.send(queued + "*1\r\n:")
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, redis := startTable(t).pair()
			client.send(guardIncr + ping)
			redis.expect(beginGuard)
			end(redis)
			redis.finish()
			if rest, _ := client.end(); strings.HasPrefix(rest, ":") || strings.Contains(rest, "LOCKLOST") || strings.Contains(rest, "KS") {
				t.Errorf("the client is told %q", rest)
			}
		})
	}
}

// The PING that shows Redis that a waiting client is there would be part of the transaction.
func TestNoPingComesIntoATransactionOfACommandOfOurs(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("KS.WAIT", "word"))
	s := r.began().(*session)
	exchange := func(command, reply string) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			_, err := s.Exchange(t.Context(), []any{command})
			done <- err
		}()
		redis.expect(resp(command))
		redis.send(reply)
		if err := wait(t, done, "the exchange"); err != nil {
			t.Fatal(err)
		}
	}
	exchange("MULTI", "+OK\r\n")
	if err := s.ping(); err != nil {
		t.Fatal(err)
	}
	exchange("EXEC", "*0\r\n") // and no PING before it
	pinged := make(chan error, 1)
	go func() { pinged <- s.ping() }()
	redis.expect(resp("PING"))
	redis.send(pong)
	if err := wait(t, pinged, "the ping"); err != nil {
		t.Fatal(err)
	}
	r.handler.release <- struct{}{}
	client.expect("+word\r\n")
}
