package proxy

import (
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/commands"
)

// A hang-up is noticed while a command waits, whatever stands unread before it.
// (It is to be noticed within 100 ms; on a loaded machine only that it is noticed
// can be tested here.)
func TestHangUpEndsAWaitingCommand(t *testing.T) {
	const request = "PING\r\n"
	for name, unread := range map[string]string{
		"nothing unread":              "",
		"some requests unread":        strings.Repeat(request, 10),
		"more unread than is read":    strings.Repeat(request, (readAhead+32<<10)/len(request)),
		"a large argument in part":    "*2\r\n$4\r\nECHO\r\n$100000\r\n" + strings.Repeat("x", 90<<10),
		"another waiting command":     resp("KS.WAIT"),
		"a command of ours half sent": "*2\r\n$7\r\nKS.WAIT\r\n$4\r\nwo",
	} {
		for how, hangUp := range map[string]func(*peer){
			"FIN":   (*peer).finish,
			"close": (*peer).close,
			"RST":   (*peer).reset,
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				r := start(t)
				client, _ := r.pair()
				client.send(resp("KS.WAIT"))
				r.began()
				client.send(unread)
				hangUp(client)
				r.endsWith(commands.ErrHangUp)
			})
		}
	}
}

// The client only takes back its waiting: what need not wait runs, and is
// answered.
func TestWhatStandsBehindAWaitingCommandRunsAfterTheFIN(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("KS.WAIT") + ping + resp("KS.NOW", "word") + resp("KS.WAIT") + "GET k\r\n")
	r.began()
	client.finish()
	r.endsWith(commands.ErrHangUp)
	redis.expect(ping)
	redis.send(pong)
	r.endsWith(commands.ErrHangUp) // the second did not wait
	redis.expect("GET k\r\n")
	if rest, err := redis.end(); rest != "" || err != nil {
		t.Errorf("redis got %q, %v behind the last request", rest, err)
	}
	redis.send(bulk("v"))
	redis.close()
	hungUp := "-CAUSE " + commands.ErrHangUp.Error() + "\r\n"
	client.expect(hungUp + pong + "+word\r\n" + hungUp + bulk("v"))
	client.expectFIN()
	r.empty()
}

// A request that blocks in Redis is left to it at once: it takes the FIN for a
// disconnect, and what stands behind is dropped, as without us.
func TestHangUpBehindABlockingRequestReachesRedis(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send(resp("BLPOP", "k", "0") + resp("KS.WAIT"))
	redis.expect(resp("BLPOP", "k", "0"))
	client.finish()
	if rest, err := redis.end(); rest != "" || err != nil {
		t.Errorf("redis got %q, %v", rest, err)
	}
	redis.close()
	client.expectFIN()
	r.empty()
	select {
	case <-r.handler.waiting:
		t.Error("the command behind it was run")
	default:
	}
}

// One that blocked, and was answered, is past: what is in flight now is waited
// for.
func TestARequestThatBlockedBlocksNoMoreOnceItIsAnswered(t *testing.T) {
	s := shareLane(t)
	one, client := s.session()
	d := &driven{session: one}
	d.take(resp("BLPOP", "k", "0") + "GET a\r\n")
	d.take("GET b\r\n")
	if !d.blocking {
		t.Error("BLPOP is in flight, and not taken to block")
	}
	s.redis.send("*-1\r\n" + bulk("a") + bulk("b"))
	client.expect("*-1\r\n" + bulk("a") + bulk("b"))
	eventually(t, "the replies to be counted", func() bool { return d.answered.Load() == 3 })
	d.take("GET c\r\n")
	if d.blocking {
		t.Error("only GET is in flight, and taken to block")
	}
}

// But a request that does not block is waited for.
func TestHangUpAtABarrierLetsRepliesInFlightThrough(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	client.send("GET k\r\n" + resp("KS.NOW"))
	redis.expect("GET k\r\n")
	client.finish()
	redis.send(bulk("v"))
	client.expect(bulk("v") + "+done\r\n")
	if rest, err := redis.end(); rest != "" || err != nil {
		t.Errorf("redis got %q, %v", rest, err)
	}
	redis.close()
	client.expectFIN()
	r.empty()
}

func TestLossOfRedisEndsAWaitingCommand(t *testing.T) {
	for how, end := range map[string]func(*peer){"FIN": (*peer).close, "RST": (*peer).reset} {
		for name, unread := range map[string]string{"": "", " behind much unread": strings.Repeat(ping, readAhead/len(ping)+1)} {
			t.Run(how+name, func(t *testing.T) {
				r := start(t)
				client, redis := r.pair()
				client.send(resp("KS.WAIT") + unread)
				r.began()
				end(redis)
				r.endsWith(commands.ErrUpstreamLost)
				if text, _ := client.end(); text != "" {
					t.Errorf("client got %q", text)
				}
				client.close()
				r.empty()
			})
		}
	}
}

// What is read ahead while a command waits is bounded; the rest stays with the
// client.
func TestReadAheadIsBounded(t *testing.T) {
	r := start(t)
	client, redis := r.pair()
	ss := r.onlySession()
	ss.frame.Lock() // so that the command's reply, and all behind it, must wait for us
	client.send(resp("KS.WAIT"))
	r.began()
	requests := strings.Repeat(ping, (readAhead+32<<10)/len(ping))
	client.send(requests)
	client.finish()
	r.endsWith(commands.ErrHangUp)
	left := unread(t, ss.rawConn())
	ss.frame.Unlock()
	if left == 0 || len(requests)-left < readAhead {
		t.Errorf("%d bytes of %d were left unread; want all but about %d", left, len(requests), readAhead)
	}
	client.expectLine()
	redis.expect(requests)
}

// onlySession returns the server's only session.
func (r *rig) onlySession() (only *session) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for s := range r.server.sessions {
		only = s
	}
	return only
}
