package passthrough

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// framed is what a stream of replies came to.
type framed struct {
	ends  []int  // offsets at which frames end
	tops  string // their types
	kinds []string
	odd   bool
}

// frameAll feeds pieces to frames.
func frameAll(pieces [][]byte) framed {
	var out framed
	var f frames
	at, begun := 0, false
	for _, p := range pieces {
		for len(p) > 0 {
			if !begun {
				f.begin(true, true)
				begun = true
			}
			n, end, ok := f.next(p)
			if !ok {
				out.odd = true
				return out
			}
			at += n
			p = p[n:]
			if end {
				out.ends = append(out.ends, at)
				out.tops += string(f.top)
				out.kinds = append(out.kinds, f.kind())
				begun = false
			}
		}
	}
	return out
}

// TestEveryReplyTypeIsOneFrame has each type of RESP2 and RESP3, alone and
// nested; behind each a PONG shows where the frame is taken to end.
func TestEveryReplyTypeIsOneFrame(t *testing.T) {
	const attribute = "|1\r\n+ttl\r\n:3600\r\n"
	for _, frame := range []string{
		"+OK\r\n", "+\r\n", "-ERR no\r\n", ":1\r\n", ":-1\r\n", ":+5\r\n",
		"$5\r\nhello\r\n", "$0\r\n\r\n", "$-1\r\n", "$4\r\n\r\n\r\n\r\n",
		"*0\r\n", "*-1\r\n", array("a", "b"), array("a", "nil", ":3"), "*2\r\n*1\r\n:1\r\n*0\r\n",
		"_\r\n", "#t\r\n", "#f\r\n", ",3.14\r\n", ",inf\r\n", ",-inf\r\n", ",nan\r\n", "(3492890328409238509324850943850943825024385\r\n",
		"(" + strings.Repeat("9", 5000) + "\r\n", "+" + strings.Repeat("x", 5000) + "\r\n", "-ERR " + strings.Repeat("x", 5000) + "\r\n",
		"!10\r\nERR broken\r\n", "=8\r\ntxt:text\r\n", "=-1\r\n", "!0\r\n\r\n",
		"%0\r\n", "%1\r\n+k\r\n:1\r\n", "%2\r\n+k\r\n%1\r\n:1\r\n:2\r\n+l\r\n~2\r\n#t\r\n_\r\n", "%-1\r\n", "~0\r\n", "~2\r\n:1\r\n$1\r\na\r\n", "~-1\r\n",
		">0\r\n", push("message", "c", "x"), ">2\r\n$10\r\ninvalidate\r\n_\r\n", ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
		// Attributes go with what follows them, at the top and within.
		attribute + ":1\r\n", attribute + attribute + array("a"), "|0\r\n+OK\r\n", attribute + "*-1\r\n",
		"*2\r\n" + attribute + ":1\r\n:2\r\n", "*1\r\n" + attribute + "*1\r\n" + attribute + "_\r\n", "*1\r\n|1\r\n+k\r\n*1\r\n:1\r\n:2\r\n",
		"%1\r\n+k\r\n" + attribute + "+v\r\n", attribute + push("message", "c", "x"),
		// Redis before 7.2 sends messages within the reply of EXEC; they are no elements of it.
		"*2\r\n" + push("message", "c", "x") + ":1\r\n" + push("message", "c", "y") + ":1\r\n",
		"*1\r\n*1\r\n" + push("message", "c", "x") + push("message", "c", "y") + ":1\r\n",
		"*1\r\n>0\r\n:1\r\n", "*1\r\n" + attribute + push("message", "c", "x") + ":1\r\n",
		"*3\r\n>1\r\n|1\r\n+a\r\n+b\r\n+c\r\n:1\r\n:2\r\n:3\r\n",
	} {
		t.Run(fmt.Sprintf("%.40q", frame), func(t *testing.T) {
			in := []byte(frame + "+PONG\r\n")
			for _, pieces := range splits(in) {
				got := frameAll(pieces)
				if got.odd || fmt.Sprint(got.ends) != fmt.Sprint([]int{len(frame), len(in)}) {
					t.Fatalf("cut into %d: frames end at %v, odd %v; want %d, %d", len(pieces), got.ends, got.odd, len(frame), len(in))
				}
			}
		})
	}
}

func TestWhatIsNoReplyIsNoticed(t *testing.T) {
	for _, in := range []string{
		"PONG\r\n", "\r\n", "\n", "?1\r\n", "$?\r\n", "*?\r\n", ".\r\n", ";4\r\nabcd\r\n",
		"$5\nhello\r\n", "$x\r\n", "$\r\n", "$-2\r\n", "*-2\r\n", "*01\r\n", "$99999999999999999999\r\n", "$" + strings.Repeat("1", 100),
		"*" + strings.Repeat("1", 100), "*1\r\nx\r\n", "*1\r\n$5\rx\n", "$5\rhello\r\n\n", ":" + strings.Repeat("1", 100) + "\r\n", "#" + strings.Repeat("t", 100) + "\r\n",
		"_" + strings.Repeat(" ", 100),
	} {
		for _, pieces := range splits([]byte(in)) {
			if got := frameAll(pieces); !got.odd {
				t.Errorf("%.40q cut into %d is taken for %d frames", in, len(pieces), len(got.ends))
			}
		}
	}
}

func TestFramesRememberTheFirstStringOfAnAggregate(t *testing.T) {
	for frame, want := range map[string]string{
		array("subscribe", "c", ":1"):                  "subscribe",
		push("punsubscribe", "c", ":1"):                "punsubscribe",
		array("message", "subscribe", "x"):             "message",
		"|1\r\n+k\r\n$1\r\nv\r\n" + array("subscribe"): "subscribe",
		"*2\r\n:1\r\n$9\r\nsubscribe\r\n":              "",
		"*2\r\n*1\r\n$9\r\nsubscribe\r\n$1\r\na\r\n":   "",
		"*2\r\n$-1\r\n$9\r\nsubscribe\r\n":             "",
		"$9\r\nsubscribe\r\n":                          "",
		array(strings.Repeat("x", 100)):                strings.Repeat("x", maxFirst),
	} {
		for _, pieces := range splits([]byte(frame)) {
			if got := frameAll(pieces); len(got.kinds) != 1 || got.kinds[0] != want {
				t.Errorf("%q cut into %d: %q; want %q", frame, len(pieces), got.kinds, want)
			}
		}
	}
}

// A stack frame per level would end the process here.
func TestDeepNestingIsCountedWithoutRecursion(t *testing.T) {
	const depth = 1 << 20
	in := bytes.Repeat([]byte("*1\r\n"), depth)
	in = append(in, ":1\r\n"...)
	got := frameAll(cut(in, len(in)/3, len(in)/2))
	if got.odd || len(got.ends) != 1 || got.ends[0] != len(in) {
		t.Errorf("frames end at %v; want one of %d bytes", got.ends, len(in))
	}
}

// What is announced costs no memory, and is counted in 64 bits.
func TestAnnouncedSizesCostNoMemory(t *testing.T) {
	heads := []string{
		"*2147483647\r\n", "%2147483647\r\n", "$536870912\r\n", "~2147483647\r\n*2147483647\r\n%2147483647\r\n$999999999999999999\r\n",
		"*999999999999999999\r\n", ">2147483647\r\n$536870912\r\n", "|999999999\r\n",
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, head := range heads {
		if got := frameAll(cut([]byte(head))); got.odd || len(got.ends) > 0 {
			t.Errorf("%q: odd %v, %d frames; want the frame to go on", head, got.odd, len(got.ends))
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
		t.Errorf("%d bytes allocated for announcements", n)
	}
}

func TestCountsGoBeyond32Bits(t *testing.T) {
	var f frames
	f.begin(false, false)
	f.next([]byte("$8589934592\r\n")) // 8 GB
	piece := make([]byte, 1<<26)
	for range 128 {
		if n, end, ok := f.next(piece); n != len(piece) || end || !ok {
			t.Fatalf("took %d, end %v, ok %v", n, end, ok)
		}
	}
	if n, end, ok := f.next([]byte("\r\n+OK")); n != 2 || !end || !ok {
		t.Fatalf("took %d at the end, end %v, ok %v; want 2, true, true", n, end, ok)
	}
}
