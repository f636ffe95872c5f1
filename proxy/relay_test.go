package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
)

const ping, pong = "PING\r\n", "+PONG\r\n"

func TestBytesPassUnchangedBothWays(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	for _, request := range []string{ping, resp("GET", "k"), "*1\rX$4\rXPING\rX", "\r\n*0\r\n", "ECHO \"a\\x41\"\n", resp("SET", "k", strings.Repeat("v", 200000))} {
		client.send(request)
		redis.expect(request)
	}
	for _, reply := range []string{pong, "$-1\r\n", "+OK\r\n", bulk(strings.Repeat("v", 200000))} {
		redis.send(reply)
		client.expect(reply)
	}
}

// What is complete is passed on at once, and so is an argument as it comes.
func TestNothingIsHeldBackLongerThanItMust(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(ping + "*3\r\n$3\r\nSE")
	redis.expect(ping)
	client.send("T\r\n")
	redis.expect("*3\r\n$3\r\nSET\r\n")
	client.send("$1\r\nk\r\n$1000000\r\nabc")
	redis.expect("$1\r\nk\r\n$1000000\r\nabc")
	redis.send(pong + "$1000000\r\nxyz")
	client.expect(pong + "$1000000\r\nxyz")
}

func TestWhatRedisSaysFirstIsPassedOn(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	redis.send("-ERR max number of clients reached\r\n")
	redis.close()
	if text, _ := client.end(); text != "-ERR max number of clients reached\r\n" {
		t.Errorf("client got %q", text)
	}
	client.close()
	r.empty()
}

// Redis answers malformed input; the proxy only stops looking.
func TestMalformedInputMakesAPipe(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	bad := ping + "*1\r\n$-1\r\n" + resp("KS.NOW")
	client.send(bad)
	redis.expect(bad)
	redis.send(pong + "-ERR Protocol error: invalid bulk length\r\n")
	client.expect(pong + "-ERR Protocol error: invalid bulk length\r\n")
	client.send(resp("KS.NOW"))
	redis.expect(resp("KS.NOW"))
	redis.close()
	client.expectFIN()
	if !r.log.contains("plain pipe") {
		t.Error("nothing is logged")
	}
}

func TestRepliesThatCannotBeCountedMakeAPipe(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	redis.send("+what is this\r\n")
	client.expect("+what is this\r\n")
	client.send(resp("KS.NOW"))
	redis.expect(resp("KS.NOW"))
	redis.send("-ERR unknown command 'KS.NOW'\r\n")
	client.expect("-ERR unknown command 'KS.NOW'\r\n")
}

// A command of ours that is caught half-way is passed on once, not twice.
func TestCommandBegunBeforeThePipeIsPassedOnOnce(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(ping + "*2\r\n$6\r\nKS.NOW\r\n$4\r\nwo")
	redis.expect(ping)
	redis.send(pong + "unasked\r\n")
	client.expect(pong + "unasked\r\n")
	client.send("rd\r\n" + ping)
	redis.expect(resp("KS.NOW", "word") + ping)
	client.finish()
	if rest, err := redis.end(); rest != "" || err != nil {
		t.Errorf("redis got %q more, %v", rest, err)
	}
	redis.close()
	client.expectFIN()
}

func TestRequestCutOffByTheEndIsPassedOnAsItIs(t *testing.T) {
	for name, request := range map[string]string{
		"a request":         "*2\r\n$3\r\nGE",
		"an inline request": "PIN",
		"a command of ours": "*2\r\n$6\r\nKS.NOW\r\n$4\r\nwo",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			client, redis := r.pair()
			client.send(ping + request)
			client.finish()
			if got, err := redis.end(); got != ping+request || err != nil {
				t.Errorf("redis got %q, %v", got, err)
			}
			redis.send(pong)
			redis.close()
			client.expect(pong)
			client.expectFIN()
			r.empty()
		})
	}
}

// To Redis a FIN is a disconnect; replies it sends nevertheless arrive.
func TestClientFINReachesRedisAndRepliesStillArrive(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(strings.Repeat(ping, 100))
	client.finish()
	got, err := io.ReadAll(redis.conn)
	if string(got) != strings.Repeat(ping, 100) || err != nil {
		t.Fatalf("redis got %d bytes, %v", len(got), err)
	}
	redis.send(strings.Repeat(pong, 100))
	redis.close()
	client.expect(strings.Repeat(pong, 100))
	client.expectFIN()
	r.empty()
}

func TestEndOfRedisReachesTheClientAsItIs(t *testing.T) {
	t.Run("FIN", func(t *testing.T) {
		r := start(t)
		client, redis := r.pair()
		client.send("QUIT\r\n")
		redis.expect("QUIT\r\n")
		redis.send("+OK\r\n")
		redis.close()
		client.expect("+OK\r\n")
		client.expectFIN()
		client.close()
		r.empty()
	})
	t.Run("RST", func(t *testing.T) {
		r := start(t)
		client, redis := r.pair()
		client.send(ping)
		redis.expect(ping)
		redis.reset()
		client.expectReset()
		r.empty()
	})
}

// A client that does not close after Redis did is not waited for for ever.
func TestClientThatStaysAfterRedisLeftIsClosed(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	redis.close()
	client.expectFIN()
	r.empty() // with no help of the client
}

func TestClientResetReachesRedis(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("BLPOP k 0\r\n")
	redis.expect("BLPOP k 0\r\n")
	client.reset()
	redis.end()
	r.empty()
}

// The requesting side never waits for replies: a client may write as much as it
// likes before it reads.
func TestClientThatWritesAllBeforeItReadsDoesNotStall(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	const requests = 1 << 20
	go func() { // a Redis that reads on, whether its replies are taken or not
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			io.CopyN(io.Discard, redis.conn, requests*int64(len(ping)))
		}()
		reply := strings.Repeat(pong, 1<<10)
		for range requests >> 10 {
			if _, err := io.WriteString(redis.conn, reply); err != nil {
				return
			}
		}
		<-taken
	}()
	client.send(strings.Repeat(ping, requests))
	client.discard(requests * int64(len(pong)))
}

func TestLargeValuesFlowBothWaysAtOnce(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	const size = 64 << 20
	head := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$" + itoa(size) + "\r\n"
	client.send("GET big\r\n" + head)
	redis.expect("GET big\r\n" + head)
	redis.send("$" + itoa(size) + "\r\n")
	pour := func(p *peer) {
		piece := make([]byte, 1<<20)
		for range size >> 20 {
			if _, err := p.conn.Write(piece); err != nil {
				t.Errorf("%s: %v", p.name, err)
				return
			}
		}
		io.WriteString(p.conn, "\r\n")
	}
	go pour(client)
	go pour(redis)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.CopyN(io.Discard, redis.conn, size+2)
	}()
	client.expect("$" + itoa(size) + "\r\n")
	client.discard(size + 2)
	wait(t, done, "the upload")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n")
}

func TestClientThatGoesAwayWhileRepliesFlowLeavesNothingBehind(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("GET", "big"))
	redis.expect(resp("GET", "big"))
	redis.send("$1000000000\r\n")
	client.expect("$1000000000\r\n")
	client.reset()
	wait(t, pourUntilClosed(redis, strings.Repeat("x", 1<<20)), "the lane to be closed")
	r.empty()
}

func TestClientWhoseSocketFailsOnlyInWritingLeavesNothingBehind(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("HELLO", "3") + resp("KS.WAIT"))
	redis.expect(resp("HELLO", "3"))
	redis.send("%0\r\n")
	r.began()
	client.send(strings.Repeat(ping, readAhead/len(ping)+1)) // from here on the client isn't read
	closed := pourUntilClosed(redis, ">2\r\n"+bulk("news")+bulk(strings.Repeat("x", 1<<20)))
	client.discard(10 << 20)
	client.reset()
	wait(t, closed, "the lane to be closed")
	r.empty()
}

// pourUntilClosed sends text again and again, until the connection fails.
func pourUntilClosed(p *peer, text string) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			if _, err := io.WriteString(p.conn, text); err != nil {
				return
			}
		}
	}()
	return closed
}

// Both sides stopped reading while both are written to: the end must not wait
// for either.
func TestShutdownEndsASessionThatIsStuckBothWays(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	for _, p := range []*peer{client, redis} {
		head := "*2\r\n$4\r\nECHO\r\n$1000000000\r\n"
		go func() {
			io.WriteString(p.conn, head)
			<-pourUntilClosed(p, strings.Repeat("x", 1<<20))
		}()
	}
	client.expect("*2\r\n")
	redis.expect("*2\r\n")
	r.stopNow()
	if n := r.server.NumClients(); n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

func TestUnixSocketsAreServed(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *Config) { c.Listeners = append(c.Listeners, Listener{Listener: l}) })
	conn, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		t.Fatal(err)
	}
	client, redis := newPeer(t, "client", conn), r.upstream()
	client.send(ping + resp("KS.NOW", "word"))
	redis.expect(ping)
	redis.send(pong)
	client.expect(pong + "+word\r\n")
}
