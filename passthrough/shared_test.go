package passthrough

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

func TestEachSinkOfALaneGetsItsOwnReplies(t *testing.T) {
	lane := start(t, nil)
	alice, bob := newRecorder(), newRecorder()
	big := strings.Repeat("x", 3<<20)
	var requests strings.Builder
	var wantAlice, wantBob strings.Builder
	for i := range 50 {
		a, b := fmt.Sprintf("ECHO a%d\r\n", i), fmt.Sprintf("ECHO b%d\r\nECHO c%d\r\n", i, i)
		lane.request(alice, a)
		lane.request(bob, b)
		requests.WriteString(a + b)
	}
	lane.request(alice, "GET big\r\n")
	lane.request(bob, "PING\r\n")
	requests.WriteString("GET big\r\nPING\r\n")
	lane.redis.expect(requests.String())
	for i := range 50 {
		wantAlice.WriteString(bulk(fmt.Sprint("a", i)))
		wantBob.WriteString(bulk(fmt.Sprint("b", i)) + bulk(fmt.Sprint("c", i)))
		lane.redis.send(bulk(fmt.Sprint("a", i)) + bulk(fmt.Sprint("b", i)) + bulk(fmt.Sprint("c", i)))
	}
	wantAlice.WriteString(bulk(big))
	wantBob.WriteString(pong)
	lane.redis.send(bulk(big) + pong)
	for _, c := range []struct {
		sink     *recorder
		answered int64
		want     string
	}{{alice, 51, wantAlice.String()}, {bob, 101, wantBob.String()}} {
		c.sink.await(t, c.answered, len(c.want))
		if text, answered, mid := c.sink.got(); text != c.want || answered != c.answered || mid {
			t.Errorf("%d answered of %d, %d bytes of %d, in the middle %v", answered, c.answered, len(text), len(c.want), mid)
		}
	}
}

// A reply of which a part has come is one sink's, whoever sends meanwhile; and
// it is known that more of it must follow.
func TestAReplyInPiecesBelongsToOneSink(t *testing.T) {
	lane := start(t, nil)
	alice, bob := newRecorder(), newRecorder()
	lane.request(alice, "LRANGE l 0 -1\r\n")
	lane.redis.send("*2\r\n$5\r\nhel")
	alice.await(t, 0, len("*2\r\n$5\r\nhel"))
	if _, answered, mid := alice.got(); answered != 0 || !mid {
		t.Errorf("%d answered, in the middle %v; want 0, true", answered, mid)
	}
	lane.request(bob, "PING\r\n")
	lane.redis.send("lo\r\n:1\r\n+PO")
	alice.await(t, 1, len("*2\r\n$5\r\nhello\r\n:1\r\n"))
	bob.await(t, 0, len("+PO"))
	if _, answered, mid := alice.got(); answered != 1 || mid {
		t.Errorf("%d answered, in the middle %v; want 1, false", answered, mid)
	}
	lane.redis.send("NG\r\n")
	bob.await(t, 1, len(pong))
	if text, _, _ := alice.got(); text != "*2\r\n$5\r\nhello\r\n:1\r\n" {
		t.Errorf("alice got %q", text)
	}
}

// What Redis says unasked goes to the owner, also between two sinks' replies.
func TestWhatComesUnaskedGoesToTheOwner(t *testing.T) {
	owner, other := newRecorder(), newRecorder()
	lane := start(t, owner)
	lane.request(owner, "HELLO 3\r\n")
	lane.request(other, "PING\r\n")
	lane.request(owner, "ECHO x\r\n")
	lane.redis.send(hello3 + push("invalidate", "k") + pong + push("invalidate", "l") + bulk("x"))
	want := hello3 + push("invalidate", "k") + push("invalidate", "l") + bulk("x")
	owner.await(t, 2, len(want))
	if text, answered, _ := owner.got(); text != want || answered != 2 {
		t.Errorf("the owner got %q for %d requests; want %q for 2", text, answered, want)
	}
	if text, answered, _ := other.got(); text != pong || answered != 1 {
		t.Errorf("the other got %q for %d requests", text, answered)
	}
}

// Many send at once: what one sends in a piece stays together, and each gets
// its own.
func TestManySendersShareALane(t *testing.T) {
	lane := start(t, nil)
	go echo(lane.redis.conn)
	const senders, rounds = 8, 200
	var all sync.WaitGroup
	var sinks [senders]*recorder
	var want [senders]strings.Builder
	two := batchOf(t, "ECHO x\r\nECHO again\r\n")
	for i := range senders {
		sinks[i] = newRecorder()
		all.Go(func() {
			for j := range rounds {
				word := fmt.Sprintf("%d-%d", i, j)
				if err := lane.Send(sinks[i], []byte("ECHO "+word+"\r\nECHO again\r\n"), two); err != nil {
					t.Error(err)
				}
				want[i].WriteString("+" + word + "\r\n+again\r\n")
			}
		})
	}
	all.Wait()
	for i, sink := range sinks {
		sink.await(t, 2*rounds, want[i].Len())
		if text, _, _ := sink.got(); text != want[i].String() {
			t.Errorf("sender %d got other replies than its own", i)
		}
	}
}

// echo is a Redis that knows ECHO, inline.
func echo(conn net.Conn) {
	r := NewReader(conn)
	r.Loop(func(p []byte) (int, Next) {
		end := strings.LastIndexByte(string(p), '\n') + 1
		if _, err := conn.Write([]byte(strings.ReplaceAll(string(p[:end]), "ECHO ", "+"))); err != nil {
			return end, Stop
		}
		return end, Again
	})
}

func TestDoGetsItsReplyAmongOthersInFlight(t *testing.T) {
	owner := newRecorder()
	lane := start(t, owner)
	lane.request(owner, "HELLO 3\r\nGET a\r\n")
	type result struct {
		v   any
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := lane.Do("EVAL", "return {1, 'x', false}", 0, int64(7), []byte("arg"))
		done <- result{v, err}
	}()
	lane.redis.expect("HELLO 3\r\nGET a\r\n" + resp("EVAL", "return {1, 'x', false}", "0", "7", "arg"))
	lane.request(owner, "GET b\r\n")
	lane.redis.send(hello3 + bulk("a") + push("invalidate", "a") + "|1\r\n+k\r\n+v\r\n*3\r\n:1\r\n" + bulk("x") + "_\r\n" + bulk("b"))
	r := await(t, done, "Do")
	if fmt.Sprint(r.v) != "[1 x <nil>]" || r.err != nil {
		t.Errorf("Do returned %v, %v", r.v, r.err)
	}
	want := hello3 + bulk("a") + push("invalidate", "a") + bulk("b")
	owner.await(t, 3, len(want))
	if text, answered, _ := owner.got(); text != want || answered != 3 {
		t.Errorf("the owner got %q for %d; want %q for 3", text, answered, want)
	}
}

func TestDoReturnsErrorRepliesAsErrors(t *testing.T) {
	lane := start(t, newRecorder())
	done := make(chan error, 1)
	go func() {
		_, err := lane.Do("GET", "k")
		done <- err
	}()
	lane.redis.expect(resp("GET", "k"))
	lane.redis.send("-NOPERM not allowed\r\n")
	var refused Error
	if err := await(t, done, "Do"); !errors.As(err, &refused) || refused.Error() != "NOPERM not allowed" {
		t.Errorf("Do returned %v", err)
	}
}

// What the commands of an Exchange do to the connection counts as if the client had
// sent them, and their replies are handed over as they came, cut apart.
func TestExchangeGetsRawRepliesInOneWrite(t *testing.T) {
	owner := newRecorder()
	lane := start(t, owner)
	exchange := func(want, replies string, state string, commands ...[]any) {
		t.Helper()
		done := make(chan [][]byte, 1)
		go func() {
			var p []byte
			for _, args := range commands {
				p = AppendCommand(p, args...)
			}
			got, err := lane.Exchange(p, len(commands))
			if err != nil {
				t.Errorf("Exchange returned %v", err)
			}
			done <- got
		}()
		lane.redis.expect(want)
		for _, piece := range bytewise([]byte(replies)) {
			lane.redis.send(string(piece))
		}
		got := await(t, done, "Exchange")
		if len(got) != len(commands) || string(bytes.Join(got, nil)) != strings.ReplaceAll(replies, push("invalidate", "k"), "") {
			t.Errorf("Exchange returned %q", got)
		}
		if s := lane.State(); s.brief() != state {
			t.Errorf("state %q; want %q", s.brief(), state)
		}
	}
	exchange(resp("WATCH", "k")+resp("GET", "k")+resp("MULTI"), ok+push("invalidate", "k")+bulk("t\r\n+x")+ok, "db0 resp2 multi watched",
		[]any{"WATCH", "k"}, []any{"GET", "k"}, []any{"MULTI"})
	exchange(resp("", "a")+resp("EXEC"), "-ERR unknown command\r\n-EXECABORT Transaction discarded\r\n", "db0 resp2",
		[]any{"", []byte("a")}, []any{"EXEC"})
	exchange(resp("HELLO", "3")+resp("HGETALL", "h")+resp("PING"), hello3+"%1\r\n~0\r\n,1.5\r\n|1\r\n+k\r\n+v\r\n"+pong, "db0 resp3",
		[]any{"HELLO", 3}, []any{"HGETALL", "h"}, []any{"PING"})
	if text, answered, _ := owner.got(); text != push("invalidate", "k") || answered != 0 {
		t.Errorf("the owner got %q for %d requests", text, answered)
	}
}

func TestExchangeIsBrokenUnlessAllIsAnswered(t *testing.T) {
	for name, end := range map[string]func(*running){
		"closed behind the first reply": func(r *running) { r.redis.send(ok); r.redis.conn.Close() },
		"closed within the last":        func(r *running) { r.redis.send(ok + "*1\r\n"); r.redis.conn.Close() },
		"a protocol error":              func(r *running) { r.redis.send("-ERR Protocol error: invalid bulk length\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			lane := start(t, newRecorder())
			done := make(chan error, 1)
			go func() {
				_, err := lane.Exchange([]byte(resp("SET", "k", "v")+resp("GET", "k")), 2)
				done <- err
			}()
			lane.redis.expect(resp("SET", "k", "v") + resp("GET", "k"))
			end(lane)
			if err := await(t, done, "Exchange"); !errors.Is(err, ErrBroken) {
				t.Errorf("Exchange returned %v; want ErrBroken", err)
			}
		})
	}
}

func TestDoEndsWithTheLane(t *testing.T) {
	for name, end := range map[string]func(*running){
		"closed by Redis":                 func(r *running) { r.redis.conn.Close() },
		"closed within the reply":         func(r *running) { r.redis.send("*2\r\n:1\r\n"); r.redis.conn.Close() },
		"reset":                           func(r *running) { r.redis.conn.(*net.TCPConn).SetLinger(0); r.redis.conn.Close() },
		"closed here":                     func(r *running) { r.Close() },
		"a pipe because of Redis":         func(r *running) { r.redis.send("what?\r\n") },
		"a pipe because of the requester": func(r *running) { r.Pipe("a test") },
	} {
		t.Run(name, func(t *testing.T) {
			lane := start(t, newRecorder())
			done := make(chan error, 2)
			go func() {
				_, err := lane.Do("GET", "k")
				done <- err
			}()
			lane.redis.expect(resp("GET", "k"))
			end(lane)
			if err := await(t, done, "Do"); !errors.Is(err, ErrBroken) {
				t.Errorf("Do in flight returned %v; want ErrBroken", err)
			}
			go func() {
				_, err := lane.Do("GET", "k")
				done <- err
			}()
			if err := await(t, done, "Do"); !errors.Is(err, ErrBroken) {
				t.Errorf("a later Do returned %v; want ErrBroken", err)
			}
		})
	}
}

func TestSwitchRepliesEndsWithTheLane(t *testing.T) {
	for name, end := range map[string]func(*running){
		"closed by Redis": func(r *running) { r.redis.conn.Close() },
		"a pipe":          func(r *running) { r.Pipe("a test") },
	} {
		t.Run(name, func(t *testing.T) {
			lane := start(t, newRecorder())
			done := make(chan error, 1)
			go func() { done <- lane.SwitchReplies(true) }()
			lane.redis.expect(resp("CLIENT", "REPLY", "ON"))
			end(lane)
			if err := await(t, done, "SwitchReplies"); !errors.Is(err, ErrBroken) {
				t.Errorf("SwitchReplies returned %v; want ErrBroken", err)
			}
		})
	}
}

func TestSwitchRepliesIsUnseenByTheOwner(t *testing.T) {
	owner := newRecorder()
	lane := start(t, owner)
	lane.request(owner, "CLIENT REPLY OFF\r\n")
	done := make(chan error, 1)
	go func() { done <- lane.SwitchReplies(true) }()
	lane.redis.expect("CLIENT REPLY OFF\r\n" + resp("CLIENT", "REPLY", "ON"))
	lane.redis.send(ok)
	if err := await(t, done, "SwitchReplies"); err != nil || lane.State().Off {
		t.Fatalf("on: %v, still off %v", err, lane.State().Off)
	}
	if err := lane.SwitchReplies(false); err != nil || !lane.State().Off {
		t.Fatalf("off: %v, off %v", err, lane.State().Off)
	}
	lane.request(owner, "PING\r\n")
	if text, answered, _ := owner.got(); text != "" || answered != 2 {
		t.Errorf("the owner got %q for %d requests; want nothing for 2", text, answered)
	}
	lane.redis.expect(resp("CLIENT", "REPLY", "OFF") + "PING\r\n")
}

func TestLearnReplacesWhatIsUnsure(t *testing.T) {
	lane := start(t, newRecorder())
	lane.request(newRecorder(), "CLIENT REPLY OFF\r\nSELECT 3\r\n")
	if s := lane.State(); !s.Unsure {
		t.Fatal("not unsure after an unseen SELECT")
	}
	lane.Learn(3, 3)
	if s := lane.State(); s.Unsure || s.DB != 3 || s.RESP != 3 {
		t.Errorf("state is %s", s.brief())
	}
}

func TestLaneEndsAsItsConnectionDoes(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*running)
		want error
	}{
		"closed by Redis": {func(r *running) { r.redis.conn.Close() }, io.EOF},
		"closed here":     {func(r *running) { r.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			owner := newRecorder()
			lane := start(t, owner)
			lane.redis.send("-LAST words\r\n")
			owner.await(t, 0, len("-LAST words\r\n"))
			c.end(lane)
			if err := await(t, lane.ended, "Run"); !errors.Is(err, c.want) {
				t.Errorf("Run returned %v; want %v", err, c.want)
			}
			await(t, lane.Done(), "Done")
		})
	}
}

// Redis executes what it got before it sees the end, so its replies still count.
func TestCloseWriteLetsRepliesInFlightThrough(t *testing.T) {
	owner := newRecorder()
	lane := start(t, owner)
	lane.request(owner, "PING\r\n")
	if err := lane.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(lane.redis.conn)
	if string(all) != "PING\r\n" || err != nil {
		t.Fatalf("redis got %q, %v", all, err)
	}
	lane.redis.send(pong)
	lane.redis.conn.Close()
	await(t, lane.Done(), "the end")
	if text, answered, _ := owner.got(); text != pong || answered != 1 {
		t.Errorf("the owner got %q for %d requests", text, answered)
	}
}

// A closer is a Sink that ends its lane as soon as it gets something.
type closer chan *Lane

func (c closer) Reply([]byte, int64, bool) { (<-c).Close() }

// Closing waits for nobody: the one who reads may be the one to close.
func TestSinkMayCloseItsLane(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"a socket":       socketPair,
		"any connection": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			c := make(closer, 1)
			here, there := pair(t)
			defer there.Close()
			lane := startOver(t, c, here, there)
			c <- lane.Lane
			go lane.redis.conn.Write([]byte("hello\r\n"))
			if err := await(t, lane.ended, "Run"); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestCloseEndsASendThatRedisDoesNotTake(t *testing.T) {
	lane := start(t, newRecorder())
	done := make(chan error, 1)
	value := []byte(resp("SET", "k", strings.Repeat("x", 64<<20)))
	began := make(chan struct{})
	go func() {
		close(began)
		done <- lane.Send(newRecorder(), value, batchOf(t, string(value)))
	}()
	<-began
	lane.redis.expect("*3\r\n$3\r\nSET\r\n") // and no more of it
	lane.Close()
	if err := await(t, done, "Send"); err == nil {
		t.Error("Send of what Redis did not take succeeded")
	}
	await(t, lane.ended, "Run")
}
