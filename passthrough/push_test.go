package passthrough

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// An asking sink asks, while it takes replies, whether a push could be written.
type asking struct {
	lane   *Lane
	during []bool
}

func (a *asking) Reply(p []byte, _ int64, _ bool) {
	if len(p) > 0 {
		a.during = append(a.during, a.lane.PushesRESP3())
	}
}

func TestPushesAreForTheProtocolOfTheRepliesThatWereDelivered(t *testing.T) {
	const (
		hello2  = "HELLO 2\r\n"
		toRESP2 = "*0\r\n"
	)
	for name, c := range map[string]struct {
		exchanges     []exchange
		during, after bool // the reply to the last exchange
	}{
		"from the beginning":            {[]exchange{{"PING\r\n", pong}}, false, false},
		"HELLO 3":                       {[]exchange{{"HELLO 3\r\n", hello3}}, false, true},
		"behind HELLO 3":                {[]exchange{{"HELLO 3\r\n", hello3}, {"PING\r\n", pong}}, true, true},
		"HELLO 3 again":                 {[]exchange{{"HELLO 3\r\n", hello3}, {"HELLO 3\r\n", hello3}}, true, true},
		"HELLO refused":                 {[]exchange{{"HELLO 3\r\n", hello3}, {"HELLO 9\r\n", "-NOPROTO no\r\n"}}, true, true},
		"HELLO 2":                       {[]exchange{{"HELLO 3\r\n", hello3}, {hello2, toRESP2}}, false, false},
		"HELLO 3 behind HELLO 2":        {[]exchange{{"HELLO 3\r\n", hello3}, {hello2, toRESP2}, {"HELLO 3\r\n", hello3}}, false, true},
		"RESET":                         {[]exchange{{"HELLO 3\r\n", hello3}, {"RESET\r\n", "+RESET\r\n"}}, false, false},
		"replies off and on":            {[]exchange{{"HELLO 3\r\n", hello3}, {"CLIENT REPLY OFF\r\n", ""}, {"CLIENT REPLY ON\r\n", ok}}, true, true},
		"replies on, HELLO unseen":      {[]exchange{{"HELLO 3\r\n", hello3}, {"CLIENT REPLY OFF\r\n", ""}, {hello2, ""}, {"CLIENT REPLY ON\r\n", ok}}, false, false},
		"HELLO skipped":                 {[]exchange{{"HELLO 3\r\n", hello3}, {"CLIENT REPLY SKIP\r\n", ""}, {hello2, ""}, {"PING\r\n", pong}}, false, false},
		"within MULTI":                  {[]exchange{{"HELLO 3\r\n", hello3}, {"MULTI\r\n", ok}}, true, true},
		"HELLO 2 executed by EXEC":      {[]exchange{{"HELLO 3\r\n", hello3}, {"MULTI\r\n", ok}, {hello2, "+QUEUED\r\n"}, {"EXEC\r\n", "*1\r\n*0\r\n"}}, false, false},
		"a pipe":                        {[]exchange{{"HELLO 3\r\n", hello3}, {"PING\r\n", pong + pong}}, false, false},
		"a reply that nobody asked for": {[]exchange{{"HELLO 3\r\n", hello3}, {"", pong}}, false, false},
		"a push of Redis's, in between": {[]exchange{{"HELLO 3\r\n", hello3}, {"", push("invalidate", "k")}}, true, true},
		"HELLO 2 and 3 at once":         {[]exchange{{hello2 + "HELLO 3\r\n", toRESP2 + hello3}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			there.Close()
			sink := &asking{}
			sink.lane = NewLane(here, sink, nil)
			for _, x := range c.exchanges {
				sink.lane.expect(sink, batchOf(t, x.request))
				if x.reply != "" {
					sink.lane.feed([]byte(x.reply))
				}
			}
			if during := sink.during[len(sink.during)-1]; during != c.during {
				t.Errorf("while the last reply is delivered: %t; want %t", during, c.during)
			}
			if after := sink.lane.PushesRESP3(); after != c.after {
				t.Errorf("at the end: %t; want %t", after, c.after)
			}
		})
	}
}

func TestPushesWaitForAHELLOThatComesInPieces(t *testing.T) {
	here, there := net.Pipe()
	there.Close()
	sink := &asking{}
	sink.lane = NewLane(here, sink, nil)
	sink.lane.expect(sink, batchOf(t, "HELLO 3\r\n"))
	for i := range len(hello3) {
		if sink.lane.PushesRESP3() {
			t.Fatalf("a push may be written before byte %d of the reply", i)
		}
		sink.lane.feed([]byte(hello3[i : i+1]))
	}
	if slices.Contains(sink.during, true) || !sink.lane.PushesRESP3() {
		t.Errorf("while delivered: %v, then %t; want false, then true", sink.during, sink.lane.PushesRESP3())
	}
}

func TestPushesEndWithRepliesOffThoughTheyAreSwitchedOnForACommand(t *testing.T) {
	owner := newRecorder()
	lane := start(t, owner)
	lane.request(owner, "HELLO 3\r\n")
	lane.redis.expect("HELLO 3\r\n")
	lane.redis.send(hello3)
	owner.await(t, 1, len(hello3))
	lane.request(owner, "CLIENT REPLY OFF\r\n")
	owner.await(t, 2, 0)
	var seen []bool
	see := func() { seen = append(seen, lane.PushesRESP3()) }
	see()
	done := make(chan error, 1)
	go func() { done <- lane.SwitchReplies(true) }()
	lane.redis.expect("CLIENT REPLY OFF\r\n" + resp("CLIENT", "REPLY", "ON"))
	lane.redis.send(ok)
	if err := await(t, done, "SwitchReplies"); err != nil {
		t.Fatal(err)
	}
	see()
	lane.SwitchReplies(false)
	see()
	if slices.Contains(seen, true) {
		t.Errorf("off, on for a command, off again: %v; want no pushes", seen)
	}
	lane.request(owner, "CLIENT REPLY ON\r\n")
	lane.redis.expect(resp("CLIENT", "REPLY", "OFF") + "CLIENT REPLY ON\r\n")
	lane.redis.send(ok)
	owner.await(t, 3, len(hello3+ok))
	if !lane.PushesRESP3() {
		t.Error("no pushes though the client has switched replies on again")
	}
}

// What Learn says counts at once, although no reply was delivered since.
func TestPushesFollowLearn(t *testing.T) {
	lane := start(t, newRecorder())
	lane.Learn(0, 3)
	if !lane.PushesRESP3() {
		t.Error("no pushes after Learn of RESP3")
	}
	lane.Learn(0, 2)
	if lane.PushesRESP3() {
		t.Error("pushes after Learn of RESP2")
	}
}

func TestRequestsThatMayRenameAreNoted(t *testing.T) {
	for requests, want := range map[string]bool{
		"CLIENT SETNAME x\r\n":                                         true,
		resp("client", "SetName", "x"):                                 true,
		resp("CLIENT", "SETNAME", strings.Repeat("x", 5*maxName)):      true,
		"MULTI\r\n" + resp("CLIENT", "SETNAME", "x") + "EXEC\r\n":      true,
		"CLIENT REPLY SKIP\r\nCLIENT SETNAME x\r\n":                    true,
		"HELLO 3 SETNAME x\r\n":                                        true,
		"HELLO\r\n":                                                    true,
		"RESET\r\n":                                                    true,
		"PING\r\nRESET\r\nPING\r\n":                                    true,
		"CLIENT GETNAME\r\n":                                           false,
		"CLIENT\r\n":                                                   false,
		resp("CLIENT", "SETINFO", "LIB-NAME", "setname"):               false,
		"SET setname x\r\nGET client\r\n":                              false,
		resp("ECHO", "CLIENT SETNAME x\r\n") + "SELECT 1\r\nMULTI\r\n": false,
	} {
		b := batchOf(t, requests)
		if b.Renames() != want {
			t.Errorf("%q: %t; want %t", requests, b.Renames(), want)
		}
		if b.Clear(); b.Renames() {
			t.Errorf("%q: noted beyond Clear", requests)
		}
	}
}

func TestResetIsToldBeforeItsReplyCounts(t *testing.T) {
	for name, c := range map[string]struct {
		exchanges []exchange
		want      int
	}{
		"RESET":               {[]exchange{{"RESET\r\n", "+RESET\r\n"}}, 1},
		"within MULTI":        {[]exchange{{"MULTI\r\n", ok}, {"SET a b\r\n", "+QUEUED\r\n"}, {"RESET\r\n", "+RESET\r\n"}}, 1},
		"under REPLY OFF":     {[]exchange{{"CLIENT REPLY OFF\r\n", ""}, {"RESET\r\n", "+RESET\r\n"}}, 1},
		"twice":               {[]exchange{{"RESET\r\n", "+RESET\r\n"}, {"RESET\r\n", "+RESET\r\n"}}, 2},
		"refused":             {[]exchange{{"RESET\r\n", "-NOPERM no\r\n"}}, 0},
		"with an argument":    {[]exchange{{"RESET x\r\n", "-ERR wrong number of arguments\r\n"}}, 0},
		"only named so":       {[]exchange{{"ECHO RESET\r\n", "+RESET\r\n"}}, 0},
		"in pieces, with GET": {[]exchange{{"GET k\r\nRESET\r\n", bulk("v") + "+RES"}, {"", "ET\r\n"}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			there.Close()
			owner := newRecorder()
			lane := NewLane(here, owner, nil)
			told, requests := 0, int64(0)
			lane.OnReset(func() {
				told++
				if text, answered, _ := owner.got(); answered == requests || strings.HasSuffix(text, "+RESET\r\n") && told == 1 {
					t.Errorf("told after %q, %d of %d answered", text, answered, requests)
				}
			})
			for _, x := range c.exchanges {
				b := batchOf(t, x.request)
				requests += b.Requests()
				lane.expect(owner, b)
				if x.reply != "" {
					lane.feed([]byte(x.reply))
				}
			}
			if _, answered, _ := owner.got(); told != c.want || answered != requests {
				t.Errorf("told of %d resets, %d of %d requests answered; want %d", told, answered, requests, c.want)
			}
		})
	}
}
