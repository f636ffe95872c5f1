package passthrough

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// maxFuzz keeps inputs below the size at which a line's fate depends on how it
// arrives, in Redis as here.
const maxFuzz = maxInline - 1024

// offsets reads split points from fuzzed bytes.
func offsets(p []byte) []int {
	at := make([]int, 0, len(p))
	sum := 0
	for _, c := range p {
		sum += int(c)
		at = append(at, sum)
	}
	return at
}

// FuzzScanner: any split of the bytes gives the same requests with the same
// effects, those that Redis would find; and the same bytes in the same order.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		resp("GET", "k") + resp("SET", "k", strings.Repeat("v", 300)), "PING\r\nECHO \"a\\x41 b\" 'c'\r\n\r\n*0\r\n", "*-1\r\n*1\rX$4\rXPING\rX",
		resp("SELECT", "7") + resp("CLIENT", "REPLY", "OFF") + resp("SUBSCRIBE", "a", "b"), resp("KS.LOCK", "a") + "ks.lock a\n" + resp("QUIT") + resp("KS.LOCK", "a"),
		"*2147483647\r\n$1\r\nX\r\n", "*2\r\n$4\r\nKS.X\r\n$x\r\n", "PI\x00NG\n", "CLIENT REPLY SKIP\r\n\r\nPING\r\n", "*1\r\n$70\r\n" + strings.Repeat("n", 70) + "\r\n",
		"*01\r\n", "*1\n$4\nPING\n", "ECHO \"a\"b\r\n", "MULTI\r\nEXEC x\r\nBLPOP k 0\r\n",
	} {
		f.Add([]byte(seed), []byte{1, 2, 3, 5, 8, 13, 21, 34})
	}
	f.Fuzz(func(t *testing.T, in, at []byte) {
		if len(in) > maxFuzz {
			return
		}
		whole := scan(cut(in))
		if whole.order != string(in) || whole.uncounted != 0 {
			t.Fatalf("%q came out as %q, %d requests uncounted", in, whole.order, whole.uncounted)
		}
		for _, pieces := range [][][]byte{cut(in, offsets(at)...), bytewise(in)} {
			if split := scan(pieces); !reflect.DeepEqual(split, whole) {
				t.Fatalf("%q in %d pieces: %+v; whole: %+v", in, len(pieces), split, whole)
			}
		}
		compare(t, in, whole)
	})
}

// compare holds what was scanned against the reference.
func compare(t *testing.T, in []byte, got scanned) {
	t.Helper()
	requests, odd := reference(in)
	if got.odd != odd {
		t.Fatalf("%q: odd %v; want %v", in, got.odd, odd)
	}
	var want []event
	var ours [][][]byte
	var b Batch
	for _, args := range requests {
		if len(args) == 0 {
			continue
		}
		if isOurs(args[0]) && !b.quit {
			ours = append(ours, args)
			continue
		}
		var two [2][]byte
		copy(two[:], args[1:])
		b.Clear()
		if e := lookup(args[0]); e == Plain {
			b.AddPlain()
		} else {
			b.addCommand(e, int64(len(args)), two)
		}
		want = append(want, event{b.runs[0].effect, b.runs[0].arg})
	}
	// One request more may have been passed on in part.
	if len(got.events) < len(want) || len(got.events) > len(want)+1 || !reflect.DeepEqual(append([]event(nil), got.events[:len(want)]...), want) {
		t.Fatalf("%q: requests %v; want %v", in, got.events, want)
	}
	if len(got.commands) != len(ours) {
		t.Fatalf("%q: %d commands of ours; want %d", in, len(got.commands), len(ours))
	}
	for i, c := range got.commands {
		if args := ParseRequest([]byte(c)); fmt.Sprintf("%q", args) != fmt.Sprintf("%q", ours[i]) {
			t.Fatalf("%q: arguments %q; want %q", in, args, ours[i])
		}
	}
}

// FuzzReplies: any split of the bytes gives the same frames, and a lane makes
// the same of them, whatever was asked; what is kept stays in bounds.
func FuzzReplies(f *testing.F) {
	message := array("message", "a", "x")
	for _, seed := range []struct{ requests, replies string }{
		{"PING\r\nGET k\r\n", pong + bulk("v")},
		{"WATCH k\r\nCLIENT REPLY SKIP\r\nUNWATCH\r\nMULTI\r\nEXEC\r\n", ok + ok + "*-1\r\n"},
		{"HELLO 3\r\nGET k\r\nPING\r\n", hello3 + "|1\r\n+ttl\r\n:5\r\n" + bulk("v") + push("message", "a", "b") + pong},
		{"SUBSCRIBE a b\r\nPING\r\nUNSUBSCRIBE\r\n", array("subscribe", "a", ":1") + message + array("subscribe", "b", ":2") + array("pong", "") + array("unsubscribe", "a", ":1") + array("unsubscribe", "b", ":0")},
		{"MULTI\r\nSELECT 3\r\nHELLO 3\r\nEXEC\r\n", ok + enqueued + enqueued + "*2\r\n+OK\r\n" + hello3},
		{"CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\n", ok + pong},
		{"MONITOR\r\nRESET\r\n", ok + "+1339518083.107412 [0 lua] \"get\"\r\n+RESET\r\n"},
		{"GET k\r\n", "*2147483647\r\n%2147483647\r\n$536870912\r\n"},
		{"GET k\r\nGET k\r\n", "~2\r\n#t\r\n,1.5\r\n(123\r\n=8\r\ntxt:text\r\n!3\r\nERR\r\n_\r\n$-1\r\n*-1\r\n%1\r\n:1\r\n:2\r\n"},
		{"", "-ERR max number of clients reached\r\n"},
		{"SYNC\r\n", "+FULLRESYNC\r\n$5\r\nhello"},
		{"CLIENT REPLY OFF\r\nHELLO 3\r\nSUBSCRIBE a\r\nCLIENT REPLY ON\r\n", push("subscribe", "a", ":1") + ok},
	} {
		f.Add([]byte(seed.requests), []byte(seed.replies), []byte{1, 2, 3, 5, 8, 13, 21, 34})
	}
	f.Fuzz(func(t *testing.T, requests, replies, at []byte) {
		if len(requests) > 1<<10 || len(replies) > maxFuzz {
			return
		}
		pieces := [][][]byte{cut(replies, offsets(at)...), bytewise(replies)}
		frames := frameAll(cut(replies))
		for _, p := range pieces {
			if got := frameAll(p); !reflect.DeepEqual(got, frames) {
				t.Fatalf("%q in %d pieces: %+v; whole: %+v", replies, len(p), got, frames)
			}
		}
		whole := answer(t, requests, cut(replies))
		if whole.text != string(replies) {
			t.Fatalf("%q was passed on as %q", replies, whole.text)
		}
		for _, p := range pieces {
			if got := answer(t, requests, p); got != whole {
				t.Fatalf("%q to %q in %d pieces: %+v; whole: %+v", replies, requests, len(p), got, whole)
			}
		}
	})
}

// answered is what a lane made of replies.
type answered struct {
	text, state string
	count       int64
	mid, opaque bool
}

// answer feeds replies to a lane that expects those to requests.
func answer(t *testing.T, requests []byte, pieces [][]byte) answered {
	owner := newRecorder()
	lane := NewLane(nil, owner, nil)
	var s Scanner
	var b Batch
	s.Scan(requests, &b)
	lane.expect(owner, &b)
	size := 0
	for _, p := range pieces {
		lane.feed(p)
		size += len(p)
	}
	text, count, mid := owner.got()
	if count > b.Requests() {
		t.Fatalf("%d requests answered of %d", count, b.Requests())
	}
	if f := &lane.frames; cap(f.line) > 2*maxLine || cap(f.first) > 2*maxFirst || len(f.stack) > size/4+1 || len(f.elements) > size {
		t.Fatalf("%d bytes of replies: keeps %d of a line, %d of a string, %d levels, %d elements", size, cap(f.line), cap(f.first), len(f.stack), len(f.elements))
	}
	return answered{text, lane.state.brief(), count, mid && !lane.Opaque(), lane.Opaque()}
}

// FuzzParseReply: whatever a frame holds, parsing it ends, in a value or an error.
func FuzzParseReply(f *testing.F) {
	for _, seed := range []string{hello3, "*2\r\n:1\r\n$-1\r\n", "|1\r\n+a\r\n+b\r\n(12\r\n", "*2147483647\r\n", "$999999999999\r\nx\r\n", "=8\r\ntxt:text\r\n", ",nan\r\n", "!3\r\nERR\r\n", "%-1\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ParseReply(in)
		if err != nil && v != nil {
			t.Fatalf("%q: both %v and %v", in, v, err)
		}
	})
}
