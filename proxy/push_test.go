package proxy

import (
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

// served returns the session of a client that has run a command.
func (r *rig) servedTo(client *peer) commands.Session {
	r.t.Helper()
	client.send("KS.NOW\r\n")
	client.expect("+done\r\n")
	return wait(r.t, r.handler.ran, "the command")
}

const lostPush = ">3\r\n$7\r\nks.lost\r\n$1\r\nn\r\n$5\r\ntoken\r\n"

// inRESP3 connects a client that speaks RESP3.
func (r *rig) inRESP3() (client, redis *peer) {
	r.t.Helper()
	client, redis = r.pair()
	client.send("HELLO 3\r\n")
	redis.expect("HELLO 3\r\n")
	redis.send(hello3)
	client.expect(hello3)
	client.send("PING\r\n") // once that is answered the reply before it has been delivered, and counts
	redis.expect("PING\r\n")
	redis.send("+PONG\r\n")
	client.expect("+PONG\r\n")
	return client, redis
}

func TestPushReachesAClientThatWaitsForNothing(t *testing.T) {
	r := start(t)
	client, _ := r.inRESP3()
	s := r.servedTo(client)
	if !s.Push("ks.lost", "n", "token") {
		t.Fatal("not pushed")
	}
	client.expect(lostPush)
}

func TestPushIsWrittenBetweenFrames(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("GET k\r\n")
	redis.expect("GET k\r\n")
	redis.send("$10\r\n01234")
	client.expect("$10\r\n01234")
	if !s.Push("ks.lost", "n", "token") {
		t.Fatal("not pushed")
	}
	redis.send("56789\r\n")
	client.expect("56789\r\n" + lostPush)
}

func TestPushIsForRESP3Only(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	s := r.servedTo(client)
	if s.Push("ks.lost") {
		t.Error("pushed in RESP2")
	}
	client.send("HELLO 3\r\n")
	redis.expect("HELLO 3\r\n")
	redis.send(hello3[:10]) // half of the reply
	client.expect(hello3[:10])
	if s.Push("ks.lost") {
		t.Error("pushed before the reply to HELLO 3")
	}
	redis.send(hello3[10:])
	client.expect(hello3[10:])
	client.send("HELLO 2\r\n")
	redis.expect("HELLO 2\r\n")
	redis.send("*0\r\n")
	client.expect("*0\r\n")
	if s.Push("ks.lost") {
		t.Error("pushed after HELLO 2")
	}
	client.close()
	redis.close()
	r.empty()
	if s.Push("ks.lost") {
		t.Error("pushed to a client that is gone")
	}
}

func TestPushDoesNotWaitForASlowClient(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("GET k\r\n")
	redis.expect("GET k\r\n")
	const size = 32 << 20 // more than the sockets take
	redis.sendAside("$" + itoa(size) + "\r\n" + strings.Repeat("x", size) + "\r\n")
	client.expect("$" + itoa(size) + "\r\n")
	pushed := 0
	for range 2 * mostPushes {
		if s.Push("ks.lost", "n", "token") {
			pushed++
		}
	}
	if pushed != mostPushes {
		t.Errorf("%d pushes wait; want %d at most", pushed, mostPushes)
	}
	client.discard(size + 2)
	for range pushed {
		client.expect(lostPush)
	}
}

func TestPushIsNotForAClientThatSwitchedRepliesOff(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("CLIENT REPLY OFF\r\n")
	redis.expect("CLIENT REPLY OFF\r\n")
	client.send("KS.WAIT\r\n") // is run with Redis's replies on
	redis.expect(resp("CLIENT", "REPLY", "ON"))
	redis.send("+OK\r\n")
	r.began()
	if s.Push("ks.lost") {
		t.Error("pushed while a command runs")
	}
	r.handler.release <- struct{}{}
	redis.expect(resp("CLIENT", "REPLY", "OFF"))
	if s.Push("ks.lost") {
		t.Error("pushed after the command")
	}
	client.send("CLIENT REPLY ON\r\n")
	redis.expect("CLIENT REPLY ON\r\n")
	redis.send("+OK\r\n")
	client.expect("+OK\r\n")
	if !s.Push("ks.lost", "n", "token") {
		t.Error("not pushed once replies are on again")
	}
	client.expect(lostPush)
}

func TestPushesKeepTheirOrder(t *testing.T) {
	r := start(t)
	client, _ := r.inRESP3()
	s := r.servedTo(client)
	want := ""
	for i := range mostPushes {
		if !s.Push(itoa(i)) {
			t.Fatal("not pushed")
		}
		want += ">1\r\n" + bulk(itoa(i))
	}
	client.expect(want)
}

func TestPushIsNotForAPipe(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("SYNC\r\n")
	redis.expect("SYNC\r\n")
	if s.Push("ks.lost") {
		t.Error("pushed into a pipe")
	}
}

// What waits for a client that speaks RESP3 no more when its turn comes is dropped.
func TestPushThatWaitsIsDroppedByHELLO2(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("GET k\r\nHELLO 2\r\n")
	redis.expect("GET k\r\nHELLO 2\r\n")
	redis.send("$4\r\n01")
	client.expect("$4\r\n01")
	if !s.Push("ks.lost") { // the frame is under way
		t.Fatal("not pushed")
	}
	redis.send("23\r\n*0\r\n")
	client.expect("23\r\n*0\r\n")
	client.send("PING\r\n")
	redis.expect("PING\r\n")
	redis.send("+PONG\r\n")
	client.expect("+PONG\r\n")
}

// A client that ends with pushes unread leaves nobody behind (see TestMain).
func TestPushesEndWithTheSession(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	client.send("GET k\r\n")
	redis.expect("GET k\r\n")
	redis.send("$9\r\n0")
	client.expect("$9\r\n0") // the frame is held
	for range mostPushes {
		if !s.Push("ks.lost") {
			t.Fatal("not pushed")
		}
	}
	client.reset()
	r.empty()
	if s.Push("ks.lost") {
		t.Error("pushed to a client that is gone")
	}
}

func TestPushIsNotForAClientThatStaysAfterRedisLeft(t *testing.T) {
	r := start(t)
	client, redis := r.inRESP3()
	s := r.servedTo(client)
	redis.close()
	client.expectFIN()
	if s.Push("ks.lost") {
		t.Error("pushed behind the end of the replies")
	}
}
