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
