package proxy

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

// A shared is a lane that serves several sessions.
type shared struct {
	t       *testing.T
	server  *Server
	handler *script
	lane    *passthrough.Lane
	redis   *peer
}

func shareLane(t *testing.T) *shared {
	t.Helper()
	handler := newScript()
	here, there := connect(t)
	s := &shared{
		t: t, server: New(Config{Handler: handler}), handler: handler,
		lane: passthrough.NewLane(here, nil, nil), redis: newPeer(t, "redis", there),
	}
	go s.lane.Run()
	t.Cleanup(func() {
		s.lane.Close()
		wait(t, s.lane.Done(), "the lane to end")
	})
	return s
}

// connect returns the two ends of a connection.
func connect(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l := listen(t)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// session returns a session on the lane and its client.
func (s *shared) session() (*session, *peer) {
	s.t.Helper()
	here, there := connect(s.t)
	ss := newSession(s.server, here, nil)
	ss.join(s.lane)
	s.t.Cleanup(func() { ss.conn.Close() })
	return ss, newPeer(s.t, "client", there)
}

// client starts a session, with a goroutine of its own, and returns its client.
func (s *shared) client() *peer {
	s.t.Helper()
	ss, client := s.session()
	done := make(chan struct{})
	go func() {
		defer close(done)
		ss.serve()
	}()
	s.t.Cleanup(func() {
		client.close()
		s.lane.Close() // a session that ends still ends its lane
		wait(s.t, done, "the session to end")
	})
	return client
}

func TestTwoSessionsOnOneLaneGetTheirOwnReplies(t *testing.T) {
	s := shareLane(t)
	alice, bob := s.client(), s.client()
	alice.send("GET a\r\n")
	s.redis.expect("GET a\r\n")
	bob.send("GET b\r\n")
	s.redis.expect("GET b\r\n")
	alice.send("GET c\r\n")
	s.redis.expect("GET c\r\n")
	big := bulk(strings.Repeat("b", 3<<20))
	s.redis.sendAside(bulk("a") + big + bulk("c"))
	bob.expect(big)
	alice.expect(bulk("a") + bulk("c"))
}

func TestBarrierOfOneSessionDoesNotWaitForAnothers(t *testing.T) {
	s := shareLane(t)
	alice, bob := s.client(), s.client()
	bob.send("GET slow\r\n")
	s.redis.expect("GET slow\r\n")
	alice.send(resp("KS.WAIT", "word"))
	wait(t, s.handler.waiting, "alice's command to run")
	s.handler.release <- struct{}{}
	alice.expect("+word\r\n")
	s.redis.send(bulk("v"))
	bob.expect(bulk("v"))
}

// But it waits for its own, though others' follow.
func TestBarrierOnASharedLaneWaitsForItsOwnReplies(t *testing.T) {
	s := shareLane(t)
	alice, bob := s.client(), s.client()
	alice.send("GET a\r\n" + resp("KS.DO", "ECHO", "x") + "GET c\r\n")
	s.redis.expect("GET a\r\n")
	bob.send("GET b\r\n")
	s.redis.expect("GET b\r\n")
	s.redis.send(bulk("a"))
	alice.expect(bulk("a"))
	s.redis.expect(resp("ECHO", "x"))
	bob.send("GET d\r\n")
	s.redis.expect("GET d\r\n")
	s.redis.send(bulk("b") + bulk("x") + bulk("d"))
	alice.expect("+x\r\n")
	bob.expect(bulk("b") + bulk("d"))
	s.redis.expect("GET c\r\n")
	s.redis.send(bulk("c"))
	alice.expect(bulk("c"))
}

func TestLossOfASharedLaneEndsTheCommandsOfAllItsSessions(t *testing.T) {
	s := shareLane(t)
	alice, bob := s.client(), s.client()
	alice.send(resp("KS.DO", "ECHO", "a"))
	s.redis.expect(resp("ECHO", "a"))
	bob.send("GET b\r\n" + resp("KS.WAIT"))
	s.redis.expect("GET b\r\n")
	s.redis.close()
	wait(t, s.lane.Done(), "the lane to end")
	alice.close()
	bob.close()
}

// answerEcho is a Redis that knows ECHO.
func answerEcho(redis *peer) {
	r := passthrough.NewReader(redis.conn)
	var scan passthrough.Scanner
	var b passthrough.Batch
	r.Loop(func(p []byte) (int, passthrough.Next) {
		b.Clear()
		n, _, _ := scan.Scan(p, &b)
		var replies strings.Builder
		for rest := p[:n]; len(rest) > 0; {
			args := passthrough.ParseRequest(rest)
			fmt.Fprintf(&replies, "+%s\r\n", args[len(args)-1])
			end := len("ECHO \r\n") + len(args[1])
			if rest[0] == '*' {
				end = len(resp("ECHO", string(args[1])))
			}
			rest = rest[end:]
		}
		if _, err := io.WriteString(redis.conn, replies.String()); err != nil {
			return n, passthrough.Stop
		}
		return n, passthrough.Again
	})
}

// Many sessions at once, each in its order.
func TestManySessionsOnOneLane(t *testing.T) {
	s := shareLane(t)
	go answerEcho(s.redis)
	var all sync.WaitGroup
	for i := range 16 {
		client := s.client()
		all.Go(func() {
			for j := range 100 {
				a, b, c := fmt.Sprintf("a%d-%d", i, j), fmt.Sprintf("b%d-%d", i, j), fmt.Sprintf("c%d-%d", i, j)
				request := "ECHO " + a + "\r\n" + resp("KS.NOW", b) + "ECHO " + c + "\r\n"
				want := "+" + a + "\r\n+" + b + "\r\n+" + c + "\r\n"
				got := make([]byte, len(want))
				if _, err := io.WriteString(client.conn, request); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(client.conn, got); err != nil || string(got) != want {
					t.Errorf("client %d got %q, %v; want %q", i, got, err, want)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	wait(t, done, "the clients")
}

// driven is a session without a goroutine of its own, as a poller would have it.
type driven struct {
	*session
	buf      []byte // what was read and not consumed
	attended int
}

// take consumes input, and attends where that is wanted.
func (d *driven) take(input string) {
	d.buf = append(d.buf, input...)
	for len(d.buf) > 0 {
		n, next := d.consume(d.buf)
		d.buf = append(d.buf[:0], d.buf[n:]...)
		if next != passthrough.Stop {
			return
		}
		d.attended++
		d.attend()
		d.buf = append(d.buf, d.reader.Take()...) // read ahead meanwhile
	}
}

// One loop drives two sessions, byte by byte in turn: their type doesn't care
// who calls.
func TestSessionsCanBeDrivenByOneCaller(t *testing.T) {
	s := shareLane(t)
	go answerEcho(s.redis)
	one, client := s.session()
	two, other := s.session()
	sessions := []*driven{{session: one}, {session: two}}
	inputs := []string{
		"ECHO a\r\n" + resp("KS.NOW", "b") + "ECHO c\r\nECHO d\r\n" + resp("KS.DO", "ECHO", "e"),
		resp("KS.NOW", "z") + "ECHO y\r\n" + resp("KS.NOW", "x") + resp("KS.NOW", "w") + "ECHO v\r\n",
	}
	for i := range max(len(inputs[0]), len(inputs[1])) {
		for k, d := range sessions {
			if i < len(inputs[k]) {
				d.take(inputs[k][i : i+1])
			}
		}
	}
	client.expect("+a\r\n+b\r\n+c\r\n+d\r\n+e\r\n")
	other.expect("+z\r\n+y\r\n+x\r\n+w\r\n+v\r\n")
	if sessions[0].attended != 2 || sessions[1].attended != 3 {
		t.Errorf("attended %d and %d times; want 2 and 3", sessions[0].attended, sessions[1].attended)
	}
}

// Consuming never waits for replies: the loop goes on with everything in flight.
func TestConsumingNeverWaitsForReplies(t *testing.T) {
	s := shareLane(t)
	one, client := s.session()
	two, other := s.session()
	a, b := &driven{session: one}, &driven{session: two}
	for range 100 {
		a.take("GET a\r\n")
		b.take("GET b\r\n")
	}
	s.redis.expect(strings.Repeat("GET a\r\nGET b\r\n", 100))
	s.redis.send(strings.Repeat(bulk("a")+bulk("b"), 100))
	client.expect(strings.Repeat(bulk("a"), 100))
	other.expect(strings.Repeat(bulk("b"), 100))
}

// A poller hands a session that must wait to a goroutine, and takes it back
// with what was read ahead meanwhile.
func TestASessionMayBeAttendedByAnotherGoroutineThanConsumes(t *testing.T) {
	s := shareLane(t)
	one, client := s.session()
	d := &driven{session: one}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.take(ping + resp("KS.WAIT", "word") + "GET a\r\n")
	}()
	s.redis.expect(ping)
	s.redis.send(pong)
	wait(t, s.handler.waiting, "the command to wait")
	client.send("GET b\r\n")
	eventually(t, "the input to be read ahead", func() bool { return unread(t, d.rawConn()) == 0 })
	s.handler.release <- struct{}{}
	wait(t, done, "the session to be handed back")
	s.redis.expect("GET a\r\nGET b\r\n")
	s.redis.send(bulk("a") + bulk("b"))
	client.expect(pong + "+word\r\n" + bulk("a") + bulk("b"))
	if d.attended != 1 {
		t.Errorf("attended %d times", d.attended)
	}
	s.redis.finish()
}
