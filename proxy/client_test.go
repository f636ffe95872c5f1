package proxy

import (
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

const infoCommand = "*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n"

// introduced is a reply of CLIENT INFO.
func introduced(id, name string) string {
	return bulk("id=" + id + " addr=10.0.0.9:999 laddr=10.0.0.1:6379 fd=8 name=" + name + " age=0 db=0 resp=2 redir=-1\n")
}

func TestSessionKnowsItsClient(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("KS.WHO\r\n")
	redis.expect(infoCommand)
	redis.send(introduced("17", "worker-3"))
	client.expect("+true \"worker-3\" 17 10.0.0.9:999 <nil>\r\n")
	client.send("KS.WHO\r\n") // not asked again
	client.expect("+true \"worker-3\" 17 10.0.0.9:999 <nil>\r\n")

	for _, rename := range []string{
		resp("client", "SetName", "x"), "CLIENT SETNAME x\r\n", resp("HELLO", "2", "SETNAME", "x"), "RESET\r\n",
		resp("CLIENT", "SETNAME", strings.Repeat("x", 200)),
	} {
		client.send(rename + "KS.WHO\r\n")
		redis.expect(rename)
		redis.send("+OK\r\n")
		client.expect("+OK\r\n")
		redis.expect(infoCommand)
		redis.send(introduced("17", rename[:1]))
		client.expect("+true \"" + rename[:1] + "\" 17 10.0.0.9:999 <nil>\r\n")
	}
}

func TestClientThatRedisDoesNotTellOfHasNoName(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("KS.WHO\r\n")
	redis.expect(infoCommand)
	redis.send("-NOPERM this user has no permissions to run the 'client|info' command\r\n")
	client.expect("+true \"\" 0  <nil>\r\n")
	client.send("KS.WHO\r\n") // not asked again
	client.expect("+true \"\" 0  <nil>\r\n")
}

func TestRenamingThatIsNotAnsweredItselfIsSeen(t *testing.T) {
	for sent, replies := range map[string]string{
		"MULTI\r\nCLIENT SETNAME x\r\nEXEC\r\n":     "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
		"CLIENT REPLY SKIP\r\nCLIENT SETNAME x\r\n": "",
	} {
		r := start(t)
		client, redis := r.pair()
		client.send("KS.WHO\r\n")
		redis.expect(infoCommand)
		redis.send(introduced("17", "before"))
		client.expect("+true \"before\" 17 10.0.0.9:999 <nil>\r\n")
		client.send(sent + "KS.WHO\r\n")
		redis.expect(sent)
		redis.send(replies)
		client.expect(replies)
		redis.expect(infoCommand)
		redis.send(introduced("17", "x"))
		client.expect("+true \"x\" 17 10.0.0.9:999 <nil>\r\n")
	}
}

func TestClientInfoIsReadExactly(t *testing.T) {
	for text, want := range map[string]clientInfo{
		"":                            {resp: 2},
		"id=7 addr=1.2.3.4:5 name=\n": {id: 7, addr: "1.2.3.4:5", resp: 2},
		"id=7 addr=[::1]:5 name=a=b db=3 resp=3\n":          {id: 7, addr: "[::1]:5", name: "a=b", db: 3, resp: 3},
		"name=id=9 user=a\u00a0name=forged resp=3\n":        {name: "id=9", resp: 3},
		"addr=/run/redis.sock:0 name=~!'\"\\ lib-name=\r\n": {addr: "/run/redis.sock:0", name: "~!'\"\\", resp: 2},
	} {
		if got := parseClientInfo(text); got != want {
			t.Errorf("%q: got %+v; want %+v", text, got, want)
		}
	}
	if got, want := parseClientInfo(nil), (clientInfo{resp: 2}); got != want {
		t.Errorf("no reply: got %+v; want %+v", got, want)
	}
}

func TestClientInfoInRESP3IsRead(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	client.send("KS.WHO\r\n")
	redis.expect(infoCommand)
	info := "txt:id=5 addr=10.0.0.9:999 name=x resp=3\n"
	redis.send("=" + itoa(len(info)) + "\r\n" + info + "\r\n")
	client.expect("+true \"x\" 5 10.0.0.9:999 <nil>\r\n")
}

// Who authenticates later is known from then on.
func TestClientThatIsNotAuthenticatedIsAskedForAgain(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("KS.WHO\r\n")
	redis.expect(infoCommand)
	redis.send("-NOAUTH Authentication required.\r\n")
	client.expect("+false \"\" 0  NOAUTH Authentication required.\r\n")
	client.send("KS.WHO\r\n")
	redis.expect(infoCommand)
	redis.send(introduced("17", "x"))
	client.expect("+true \"x\" 17 10.0.0.9:999 <nil>\r\n")
}

// over waits until the handler is told that a session has ended.
func (r *rig) over() commands.Session {
	r.t.Helper()
	return wait(r.t, r.handler.ended, "the handler to be told of the end")
}

// notOver checks that the handler was told no more.
func (r *rig) notOver() {
	r.t.Helper()
	if n := len(r.handler.ended); n > 0 {
		r.t.Fatalf("the handler was told of %d ends too many", n)
	}
}

func TestHandlerIsToldOfTheEndOfASession(t *testing.T) {
	for name, end := range map[string]func(client, redis *peer){
		"the client closes":         func(client, redis *peer) { client.close(); redis.expectFIN(); redis.close() },
		"the client resets":         func(client, _ *peer) { client.reset() },
		"Redis closes":              func(_, redis *peer) { redis.close() },
		"Redis resets":              func(_, redis *peer) { redis.reset() },
		"Redis closes, not clients": func(_, redis *peer) { redis.finish() },
		"a command panics":          func(client, _ *peer) { client.send("KS.PANIC\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			client, redis := r.pair()
			client.send("KS.NOW\r\n")
			client.expect("+done\r\n")
			s := wait(t, r.handler.ran, "the command")
			end(client, redis)
			if ended := r.over(); ended != s {
				t.Errorf("told of another session")
			}
			client.close()
			redis.close()
			r.empty()
			r.notOver()
		})
	}
}

func TestHandlerIsToldOfTheEndAfterTheRunningCommand(t *testing.T) {
	r := start(t)
	client, _ := r.pair()
	client.send("KS.WAIT\r\n")
	r.began()
	client.reset()
	r.endsWith(commands.ErrHangUp)
	r.over()
	r.empty()
	r.notOver()

	client, redis := r.pair()
	client.send("KS.WAIT\r\n")
	r.began()
	redis.close()
	r.endsWith(commands.ErrUpstreamLost)
	r.over()
	client.close()
	r.empty()
	r.notOver()
}

func TestHandlerIsNotToldOfSessionsItNeverServed(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("PING\r\n")
	redis.expect("PING\r\n")
	client.close()
	redis.close()
	r.empty()
	r.notOver()
}

// A command within MULTI is Redis's to refuse.
func TestHandlerIsNotToldOfSessionsWhoseCommandsItDidNotRun(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("MULTI\r\nKS.NOW\r\n")
	redis.expect("MULTI\r\n")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n")
	redis.expect("KS.NOW\r\n")
	client.close()
	redis.close()
	r.empty()
	r.notOver()
}

// Replies that were spilled for the client may take for ever to be read.
func TestHandlerIsToldOfTheEndThoughTheClientDoesNotRead(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	reply := bulk(strings.Repeat("x", 16<<20))
	client.send("GET k\r\n" + "KS.WAIT\r\n")
	redis.expect("GET k\r\n")
	redis.send(reply)
	r.began()
	redis.close()
	r.endsWith(commands.ErrUpstreamLost)
	r.over()
	client.discard(int64(len(reply)))
	client.close()
	r.empty()
	r.notOver()
}

// RESET ends what lasts as long as the session, before what was sent behind it runs.
func TestHandlerIsToldOfAReset(t *testing.T) {
	for _, before := range []string{"", "MULTI\r\n"} {
		r := start(t)
		client, redis := r.pair()
		client.send("KS.NOW\r\n")
		client.expect("+done\r\n")
		wait(t, r.handler.ran, "the command")
		client.send(before + "RESET\r\n" + "KS.NOW behind\r\n")
		redis.expect(before + "RESET\r\n")
		if before != "" {
			redis.send("+OK\r\n")
			client.expect("+OK\r\n")
		}
		r.notOver()
		redis.send("+RESET\r\n")
		wait(t, r.handler.ran, "the command behind RESET")
		if len(r.handler.ended) != 1 {
			t.Error("the command ran before the handler was told of RESET")
		}
		r.over()
		client.expect("+RESET\r\n+behind\r\n")
		client.send("RESET\r\n")
		redis.expect("RESET\r\n")
		redis.send("-ERR no\r\n")
		client.expect("-ERR no\r\n")
		r.notOver()
	}
}

// A client may still speak while it is given time to close; what it was granted would
// never be taken back.
func TestNoCommandRunsOnceTheSessionHasEnded(t *testing.T) {
	for _, served := range []bool{true, false} {
		r := start(t)
		client, redis := r.pair()
		if served {
			r.servedTo(client)
		}
		redis.close()
		client.expectFIN() // Redis's end has come through
		if served {
			r.over()
		}
		client.send("KS.NOW\r\n")
		client.finish()
		r.empty()
		if n := len(r.handler.ran); n > 0 {
			t.Errorf("served %t: %d commands ran after the end", served, n)
		}
		r.notOver()
	}
}

func TestPanicOfTheHandlerAtTheEndIsNoOneElses(t *testing.T) {
	r := start(t)
	r.handler.endPanics.Store(true)
	client, redis := r.pair()
	r.servedTo(client)
	client.send("RESET\r\n")
	redis.expect("RESET\r\n")
	redis.send("+RESET\r\n")
	r.over() // of RESET, and the session ends by the panic
	r.over()
	r.empty()
	r.notOver()
	if !r.log.contains("session failed") {
		t.Error("nothing was logged")
	}
	client, redis = r.pair()
	client.send("PING\r\n")
	redis.expect("PING\r\n")
}
