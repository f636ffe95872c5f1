package proxy

import (
	"strings"
	"testing"
)

func TestClientThatGoesAwayWhileRepliesFlowLeavesNothingBehind(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("GET", "big"))
	redis.expect(resp("GET", "big"))
	redis.send("$1000000000\r\n")
	client.expect("$1000000000\r\n")
	client.reset()
	sent := make(chan struct{})
	go func() { // until the lane is closed
		defer close(sent)
		piece := []byte(strings.Repeat("x", 1<<20))
		for {
			if _, err := redis.conn.Write(piece); err != nil {
				return
			}
		}
	}()
	wait(t, sent, "the lane to be closed")
	r.empty()
}

func TestClientWhoseSocketFailsOnlyInWritingLeavesNothingBehind(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("HELLO", "3") + resp("KS.WAIT"))
	redis.expect(resp("HELLO", "3"))
	redis.send("%0\r\n")
	r.began()
	client.send(strings.Repeat("PING\r\n", readAhead/6+1)) // from here on the client isn't read
	push := ">2\r\n" + bulk("news") + bulk(strings.Repeat("x", 1<<20))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			if _, err := redis.conn.Write([]byte(push)); err != nil {
				return
			}
		}
	}()
	client.discard(10 << 20)
	client.reset()
	wait(t, sent, "the lane to be closed")
	r.empty()
}
