package passthrough

import (
	"strconv"
	"strings"
	"testing"
)

// A muteRedis answers CLIENT REPLY, empty requests and ECHO as networking.c does.
type muteRedis struct{ off, skip, skipNext bool }

// answer returns what it says to one request.
func (m *muteRedis) answer(request string) (reply string) {
	quiet := m.off || m.skip
	switch request {
	case "CLIENT REPLY ON\r\n":
		m.off, m.skip = false, false
		reply = "+OK\r\n"
	case "CLIENT REPLY OFF\r\n":
		m.off = true
	case "CLIENT REPLY SKIP\r\n":
		if !m.off {
			m.skipNext = true
		}
	case "CLIENT REPLY FOO\r\n":
		if !quiet {
			reply = "-ERR syntax error\r\n"
		}
	case "\r\n":
	default:
		if !quiet {
			reply = "+" + strings.TrimSpace(strings.TrimPrefix(request, "ECHO")) + "\r\n"
		}
	}
	m.skip, m.skipNext = m.skipNext, false // resetClient
	return reply
}

// TestRepliesAreCountedThroughEveryOrderOfReplyModes tries all rows of five
// requests; behind each the client can be heard again.
func TestRepliesAreCountedThroughEveryOrderOfReplyModes(t *testing.T) {
	words := []string{"CLIENT REPLY ON\r\n", "CLIENT REPLY OFF\r\n", "CLIENT REPLY SKIP\r\n", "CLIENT REPLY FOO\r\n", "\r\n", "ECHO x\r\n"}
	const length = 5
	row := make([]string, length)
	var try func(i int)
	rows := 0
	try = func(i int) {
		if i < length {
			for _, w := range words {
				row[i] = strings.Replace(w, "x", strconv.Itoa(i), 1)
				try(i + 1)
			}
			return
		}
		rows++
		var redis muteRedis
		exchanges := make([]exchange, 0, length+2)
		for _, request := range append(row[:length:length], "CLIENT REPLY ON\r\n", "ECHO end\r\n") {
			exchanges = append(exchanges, exchange{request, redis.answer(request)})
		}
		for _, order := range []int{inTurn, pipelined} {
			p := play(t, exchanges, order, whole)
			text, answered, _ := p.owner.got()
			if text != p.reply || answered != p.requests || p.reason != "" || p.lane.state.brief() != "db0 resp2" {
				t.Fatalf("%q, order %d: %d of %d answered, state %q, pipe %q, passed on %q; want %q",
					row, order, answered, p.requests, p.lane.state.brief(), p.reason, text, p.reply)
			}
		}
	}
	try(0)
	if rows != 7776 {
		t.Errorf("%d rows tried", rows)
	}
}

// A reply counts as soon as nothing more can come for its request, also where
// that is known without Redis saying a word.
func TestSilenceIsCreditedAsSoonAsItIsKnown(t *testing.T) {
	owner := newRecorder()
	lane := &Lane{owner: owner, state: State{RESP: 2}}
	for _, step := range []struct {
		request, reply string
		answered       int64
	}{
		{"CLIENT REPLY SKIP\r\n", "", 1},
		{"PING\r\n", "", 2},
		{"PING\r\nCLIENT REPLY OFF\r\nPING\r\n", "", 2}, // a PONG comes first
		{"", "+PONG\r\n", 5},
		{"PING\r\nPING\r\n", "", 7},
		{"CLIENT REPLY ON\r\nPING\r\n", "", 7},
		{"", "+OK\r\n", 8},
		{"", "+PONG\r\n", 9},
	} {
		if step.request != "" {
			lane.expect(owner, batchOf(t, step.request))
		}
		if step.reply != "" {
			lane.feed([]byte(step.reply))
		}
		if _, answered, _ := owner.got(); answered != step.answered {
			t.Fatalf("after %q, %q: %d answered; want %d", step.request, step.reply, answered, step.answered)
		}
	}
}
