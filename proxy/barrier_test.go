package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

const (
	hello3 = "%1\r\n$5\r\nproto\r\n:3\r\n"
	push   = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
)

// A command of ours acts after all that was sent before it, and before all that
// was sent behind it.
func TestCommandIsABarrier(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("GET a\r\nGET b\r\n" + resp("KS.WAIT", "word") + "GET c\r\n" + resp("ks.now") + "GET d\r\n")
	redis.expect("GET a\r\nGET b\r\n")
	redis.send(bulk("a"))
	client.expect(bulk("a"))
	redis.send(bulk("b"))
	client.expect(bulk("b"))
	r.began()
	r.handler.release <- struct{}{}
	client.expect("+word\r\n")
	redis.expect("GET c\r\n")
	redis.send(bulk("c"))
	client.expect(bulk("c") + "+done\r\n")
	redis.expect("GET d\r\n")
	redis.send(bulk("d"))
	client.expect(bulk("d"))
}

func TestCommandWaitsForTheRepliesBeforeIt(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("GET a\r\nGET b\r\n" + resp("KS.WAIT"))
	redis.expect("GET a\r\nGET b\r\n")
	redis.send(bulk("a") + "$1\r\nb") // the second is not complete
	client.expect(bulk("a") + "$1\r\nb")
	select {
	case <-r.handler.waiting:
		t.Fatal("the command runs before the replies in flight have come")
	default:
	}
	redis.send("\r\n")
	r.began()
}

// Any split of what the client sends gives the same: here, byte by byte.
func TestCommandIsFoundInAnySplit(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	sent := ping + resp("KS.NOW", "one") + "KS.NOW two\r\n" + resp("SELECT", "7") + "\"ks.where\"\n" + ping
	for _, c := range []byte(sent) {
		client.send(string(c))
	}
	redis.expect(ping)
	redis.send(pong)
	redis.expect(resp("SELECT", "7"))
	redis.send("+OK\r\n")
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong + "+one\r\n+two\r\n+OK\r\n+db7 resp2\r\n" + pong)
}

func TestCommandKnowsItsSession(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("KS.WHERE\r\nSELECT 3\r\nHELLO 3\r\nKS.WHERE\r\nRESET\r\nKS.WHERE\r\n")
	redis.expect("SELECT 3\r\nHELLO 3\r\n")
	redis.send("+OK\r\n" + hello3)
	redis.expect("RESET\r\n")
	redis.send("+RESET\r\n")
	client.expect("+db0 resp2\r\n+OK\r\n" + hello3 + "+db3 resp3\r\n+RESET\r\n+db0 resp2\r\n")
}

// What a command asks of Redis goes through the client's own lane, and its
// replies are not the client's.
func TestCommandAsksRedisOnTheClientsOwnLane(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(ping + resp("KS.DO", "ECHO", "x") + ping)
	redis.expect(ping)
	redis.send(pong)
	redis.expect(resp("ECHO", "x"))
	redis.send(bulk("x"))
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong + "+x\r\n" + pong)
	client.send(resp("KS.DO", "GET", "k"))
	redis.expect(resp("GET", "k"))
	redis.send("-NOAUTH Authentication required.\r\n")
	client.expect("-NOAUTH Authentication required.\r\n")
}

// Redis is asked to run our commands where it would refuse any: within MULTI,
// so that EXEC fails in its own words.
func TestCommandWithinMultiIsLeftToRedis(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	unknown := "-ERR unknown command 'KS.NOW'\r\n"
	client.send("MULTI\r\n" + resp("KS.NOW") + "EXEC\r\n" + resp("KS.NOW"))
	redis.expect("MULTI\r\n")
	redis.send("+OK\r\n")
	redis.expect(resp("KS.NOW") + "EXEC\r\n")
	redis.send(unknown + "-EXECABORT Transaction discarded because of previous errors.\r\n")
	client.expect("+OK\r\n" + unknown + "-EXECABORT Transaction discarded because of previous errors.\r\n+done\r\n")
}

func TestLargeCommandWithinMultiAddsNothingToTheTransaction(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	large := resp("KS.NOW", strings.Repeat("x", 10*unvetted))
	client.send("MULTI\r\n")
	redis.expect("MULTI\r\n")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n")
	client.send(large)
	redis.expect(large)
	redis.send("-ERR unknown command\r\n")
	client.expect("-ERR unknown command\r\n")
}

func TestCommandOfASubscriberIsRefusedAsRedisRefuses(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	ack := "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
	client.send("SUBSCRIBE a\r\n" + resp("KS.Now") + "UNSUBSCRIBE\r\n" + resp("KS.NOW"))
	redis.expect("SUBSCRIBE a\r\n")
	redis.send(ack)
	client.expect(ack + "-ERR Can't execute 'ks.now': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n")
	redis.expect("UNSUBSCRIBE\r\n")
	ack = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
	redis.send(ack)
	client.expect(ack + "+done\r\n")
}

func TestSubscriberInRESP3MayRunCommands(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	ack := ">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
	client.send("HELLO 3\r\nSUBSCRIBE a\r\n" + resp("KS.NOW"))
	redis.expect("HELLO 3\r\nSUBSCRIBE a\r\n")
	redis.send(hello3 + ack)
	client.expect(hello3 + ack + "+done\r\n")
}

func TestCommandInMonitorModeIsRefusedAsRedisRefuses(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("MONITOR\r\n" + resp("KS.NOW") + "RESET\r\n" + resp("KS.NOW"))
	redis.expect("MONITOR\r\n")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n-ERR Replica can't interact with the keyspace\r\n")
	redis.expect("RESET\r\n")
	redis.send("+1339518083.107412 [0 lua] \"get\"\r\n+RESET\r\n")
	client.expect("+1339518083.107412 [0 lua] \"get\"\r\n+RESET\r\n+done\r\n")
}

// The command runs all the same, with replies switched on around it so that it
// can talk to Redis; its own is not sent.
func TestCommandUnderReplyOffRunsInSilence(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	on, off := resp("CLIENT", "REPLY", "ON"), resp("CLIENT", "REPLY", "OFF")
	client.send("CLIENT REPLY OFF\r\n" + ping + resp("KS.DO", "ECHO", "x") + ping + "CLIENT REPLY ON\r\n" + resp("KS.NOW"))
	redis.expect("CLIENT REPLY OFF\r\n" + ping + on)
	redis.send("+OK\r\n")
	redis.expect(resp("ECHO", "x"))
	redis.send(bulk("x"))
	redis.expect(off + ping + "CLIENT REPLY ON\r\n")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n+done\r\n")
}

func TestCommandBehindReplySkipIsSkipped(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("CLIENT REPLY SKIP\r\n" + resp("KS.DO", "ECHO", "x") + ping + resp("KS.NOW"))
	redis.expect("CLIENT REPLY SKIP\r\n" + resp("CLIENT", "REPLY", "ON"))
	redis.send("+OK\r\n")
	redis.expect(resp("ECHO", "x"))
	redis.send(bulk("x"))
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong + "+done\r\n")
}

// While replies were off, a SELECT went unseen; so Redis is asked.
func TestDatabaseSelectedUnseenIsAskedFor(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("CLIENT REPLY OFF\r\nSELECT 5\r\nHELLO 3\r\nCLIENT REPLY ON\r\nKS.WHERE\r\nKS.WHERE\r\n")
	redis.expect("CLIENT REPLY OFF\r\nSELECT 5\r\nHELLO 3\r\nCLIENT REPLY ON\r\n")
	redis.send("+OK\r\n")
	redis.expect(resp("CLIENT", "INFO"))
	redis.send(bulk("id=3 addr=127.0.0.1:1 db=5 sub=0 resp=3\n"))
	client.expect("+OK\r\n+db5 resp3\r\n+db5 resp3\r\n")
}

// Behind a QUIT Redis drops everything, and so do we.
func TestCommandBehindQuitIsNotRun(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("QUIT\r\n" + resp("KS.WAIT"))
	redis.expect("QUIT\r\n" + resp("KS.WAIT"))
	redis.send("+OK\r\n")
	redis.close()
	client.expect("+OK\r\n")
	client.expectFIN()
	client.close()
	r.empty()
	select {
	case <-r.handler.waiting:
		t.Error("the command was run")
	default:
	}
}

// Redis may be in the middle of a push message when our reply is ready.
func TestReplyIsWrittenBetweenFrames(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("HELLO 3\r\n" + resp("KS.WAIT", "word"))
	redis.expect("HELLO 3\r\n")
	redis.send(hello3)
	r.began()
	redis.send(push + push[:12])
	client.expect(hello3 + push + push[:12])
	r.handler.release <- struct{}{}
	if err := wait(t, r.handler.released, "the command to end"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []byte(push[12:]) {
		redis.send(string(c))
	}
	client.expect(push[12:] + "+word\r\n")
}

// A client that writes its whole pipeline before it reads must not stall where
// one of our commands waits for replies that it doesn't take.
func TestClientThatReadsLateDoesNotStallAtABarrier(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	value := bulk(strings.Repeat("v", 1<<20))
	const gets = 12
	client.send(strings.Repeat("GET v\r\n", gets) + resp("KS.WAIT", "word") + "GET v\r\n" + resp("KS.WAIT", "word"))
	redis.expect(strings.Repeat("GET v\r\n", gets))
	redis.send(strings.Repeat(value, gets)) // all is taken from Redis
	r.began()                               // before the client has read a byte
	r.handler.release <- struct{}{}
	redis.expect("GET v\r\n")
	redis.send(value)
	r.began()
	r.handler.release <- struct{}{}
	for range gets {
		client.expect(value)
	}
	client.expect("+word\r\n" + value + "+word\r\n")
	client.send(ping)
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong)
}

// The same where the lane is already stuck in writing to the client.
func TestBarrierFreesALaneThatIsStuckInWriting(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	const gets = 16
	value := bulk(strings.Repeat("v", 1<<20))
	client.send(strings.Repeat("GET v\r\n", gets))
	redis.expect(strings.Repeat("GET v\r\n", gets))
	sent := redis.sendAside(strings.Repeat(value, gets))
	client.expect(value[:1])
	client.send(resp("KS.WAIT", "word"))
	r.began()
	wait(t, sent, "the replies to be taken")
	r.handler.release <- struct{}{}
	client.expect(value[1:] + strings.Repeat(value, gets-1) + "+word\r\n")
}

// Redis closes idle connections, and to Redis a client that waits is idle.
func TestLaneOfAWaitingClientIsKeptAlive(t *testing.T) {
	r := start(t, func(c *Config) { c.UpstreamTimeout = 30 * time.Millisecond })
	client, redis := r.pair()
	client.send(resp("KS.WAIT", "word"))
	r.began()
	for range 3 {
		redis.expect(resp("PING"))
		redis.send(pong)
	}
	r.handler.release <- struct{}{}
	wait(t, r.handler.released, "the command to end")
	stop := make(chan struct{})
	go func() { // a PING may be under way
		defer close(stop)
		line := make([]byte, 1<<10)
		for {
			n, err := redis.conn.Read(line)
			if err != nil {
				return
			}
			redis.conn.Write([]byte(strings.Repeat(pong, strings.Count(string(line[:n]), "PING"))))
		}
	}()
	client.expect("+word\r\n")
	client.send("PING\r\n")
	client.expect(pong)
	client.close()
	wait(t, stop, "the lane to end")
}

// Redis takes no large command from a client that is not authenticated; neither
// must we, as it would have to be kept in memory.
func TestLargeCommandOfAnUnauthenticatedClientIsLeftToRedis(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	head := "*2\r\n$6\r\nKS.NOW\r\n$1000000\r\n" + strings.Repeat("x", unvetted)
	client.send(head)
	redis.expect(resp("PING"))
	redis.send("-NOAUTH Authentication required.\r\n")
	redis.expect(head)
	redis.send("-ERR Protocol error: unauthenticated bulk length\r\n")
	redis.close()
	if text, _ := client.end(); text != "-ERR Protocol error: unauthenticated bulk length\r\n" {
		t.Errorf("client got %q", text)
	}
}

func TestLargeCommandOfAnAuthenticatedClientIsRun(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	word := strings.Repeat("x", 10*unvetted)
	for range 2 { // Redis is asked once
		client.send(resp("KS.NOW", word))
	}
	redis.expect(resp("PING"))
	redis.send(pong)
	client.expect("+" + word + "\r\n+" + word + "\r\n")
	client.send(ping)
	redis.expect(ping)
}

func TestPanicOfACommandEndsOnlyItsOwnSession(t *testing.T) {
	r := start(t)
	first, redisOfFirst := r.pair()
	second, redisOfSecond := r.pair()
	first.send(resp("KS.PANIC"))
	if rest, _ := first.end(); rest != "" {
		t.Errorf("client got %q", rest)
	}
	redisOfFirst.end()
	second.send(resp("KS.NOW") + ping)
	redisOfSecond.expect(ping)
	redisOfSecond.send(pong)
	second.expect("+done\r\n" + pong)
	if !r.log.contains("as the test asked") {
		t.Error("the panic is not logged")
	}
}

// Redis is lost while a command asks it: no reply is made up for a command that
// may have run.
func TestNoReplyIsInventedWhenRedisIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		command string
		lose    func(r *rig, redis *peer)
	}{
		"while the command waits": {resp("KS.WAIT"), func(r *rig, redis *peer) {
			r.began()
			redis.close()
			r.endsWith(commands.ErrUpstreamLost)
		}},
		"while it asks": {resp("KS.DO", "ECHO", "x"), func(_ *rig, redis *peer) {
			redis.expect(resp("ECHO", "x"))
			redis.close()
		}},
		"while it gets its answer": {resp("KS.DO", "ECHO", "x"), func(_ *rig, redis *peer) {
			redis.expect(resp("ECHO", "x"))
			redis.send("$100\r\nxxx")
			redis.close()
		}},
		"in what it says": {resp("KS.DO", "ECHO", "x"), func(_ *rig, redis *peer) {
			redis.expect(resp("ECHO", "x"))
			redis.send("$1\r\nx\r\nwhat is this\r\n")
			redis.close()
		}},
		"while a reply is in flight": {ping + resp("KS.NOW"), func(_ *rig, redis *peer) {
			redis.expect(ping)
			redis.close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 { // of any interleaving
				r := start(t)
				client, redis := r.pair()
				client.send(c.command)
				c.lose(r, redis)
				if text, _ := client.end(); strings.Contains(text, "-") || strings.Contains(text, "+done") {
					t.Fatalf("client got %q", text)
				}
				client.close()
				r.empty()
			}
		})
	}
}

func TestManySessionsRunCommandsAtOnce(t *testing.T) {
	r := start(t)
	const clients = 50
	done := make(chan error, clients)
	for i := range clients {
		client, redis := r.pair()
		go func() {
			for {
				line := make([]byte, 1<<10)
				n, err := redis.conn.Read(line)
				if err != nil {
					return
				}
				redis.conn.Write([]byte(strings.Repeat(pong, strings.Count(string(line[:n]), ping))))
			}
		}()
		go func() {
			for j := range 50 {
				word := fmt.Sprintf("%d-%d", i, j)
				client.conn.SetDeadline(time.Now().Add(patience))
				if _, err := client.conn.Write([]byte(ping + resp("KS.NOW", word))); err != nil {
					done <- err
					return
				}
				want := pong + "+" + word + "\r\n"
				got := make([]byte, len(want))
				for n := 0; n < len(got); {
					k, err := client.conn.Read(got[n:])
					if err != nil {
						done <- err
						return
					}
					n += k
				}
				if string(got) != want {
					done <- fmt.Errorf("client %d got %q; want %q", i, got, want)
					return
				}
			}
			done <- nil
		}()
	}
	for range clients {
		if err := wait(t, done, "the clients"); err != nil {
			t.Error(err)
		}
	}
}
