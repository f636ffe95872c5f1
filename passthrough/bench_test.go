package passthrough

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
)

// pipelines are the numbers of requests that arrive in one read.
var pipelines = []int{1, 16, 100}

// getSet is a pipeline of n requests, GET and SET in turn, and their replies.
func getSet(n int) (requests, replies []byte) {
	for i := range n {
		if i%2 == 0 {
			requests = append(requests, resp("GET", "key:000000000042")...)
			replies = append(replies, bulk("xxxxxxxxxxxxxxxx")...)
		} else {
			requests = append(requests, resp("SET", "key:000000000042", "xxxxxxxxxxxxxxxx")...)
			replies = append(replies, ok...)
		}
	}
	return requests, replies
}

// count is a Sink that only counts.
type count struct{ answered int64 }

func (c *count) Reply(_ []byte, answered int64, _ bool) { c.answered += answered }

// relay is the way of one pipeline through scanner, batch and lane, without a
// socket.
func relay(s *Scanner, b *Batch, l *Lane, sink Sink, requests, replies []byte) {
	b.Clear()
	s.Scan(requests, b)
	l.expect(sink, b)
	l.feed(replies)
}

func TestRelayingAllocatesNothing(t *testing.T) {
	for _, n := range pipelines {
		requests, replies := getSet(n)
		sink := &count{}
		s, b, l := Scanner{Intercept: isOurs}, Batch{}, NewLane(nil, sink, nil)
		relay(&s, &b, l, sink, requests, replies) // once, for the buffers that stay
		if allocs := testing.AllocsPerRun(100, func() { relay(&s, &b, l, sink, requests, replies) }); allocs != 0 {
			t.Errorf("%v allocations for a pipeline of %d", allocs, n)
		}
		if want := int64(102 * n); sink.answered != want {
			t.Errorf("%d answered of %d", sink.answered, want)
		}
	}
}

// Nor do requests that have an effect, nor pub/sub messages, nor RESP3.
func TestRelayingOfAnythingUsualAllocatesNothing(t *testing.T) {
	for name, x := range map[string]exchange{
		"MULTI":      {resp("MULTI") + resp("PING") + resp("EXEC"), ok + enqueued + "*1\r\n+PONG\r\n"},
		"WATCH":      {resp("WATCH", "k") + resp("GET", "k") + resp("UNWATCH"), ok + bulk("v") + ok},
		"SELECT":     {resp("SELECT", "3") + resp("GET", "k"), ok + bulk("v")},
		"blocking":   {resp("BLPOP", "k", "0"), array("k", "v")},
		"HELLO 3":    {resp("HELLO", "3") + resp("HGETALL", "h"), hello3 + "%1\r\n+k\r\n:1\r\n"},
		"aggregates": {resp("SMEMBERS", "s"), "*2\r\n*1\r\n" + bulk("a") + "*1\r\n*1\r\n:1\r\n"},
		"pushes":     {resp("HELLO", "3"), push("invalidate", "k") + hello3 + push("message", "c", "x")},
	} {
		in, out := []byte(x.request), []byte(x.reply)
		sink := &count{}
		s, b, l := Scanner{Intercept: isOurs}, Batch{}, NewLane(nil, sink, nil)
		relay(&s, &b, l, sink, in, out)
		if allocs := testing.AllocsPerRun(100, func() { relay(&s, &b, l, sink, in, out) }); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
		if l.Opaque() {
			t.Errorf("%s: became a pipe", name)
		}
	}
}

func BenchmarkScanner(b *testing.B) {
	for _, n := range pipelines {
		b.Run(fmt.Sprint("pipeline=", n), func(b *testing.B) {
			requests, _ := getSet(n)
			s, batch := Scanner{Intercept: isOurs}, Batch{}
			b.SetBytes(int64(len(requests)))
			b.ReportAllocs()
			for b.Loop() {
				batch.Clear()
				s.Scan(requests, &batch)
			}
			perRequest(b, n)
		})
	}
}

func BenchmarkReplies(b *testing.B) {
	for _, n := range pipelines {
		b.Run(fmt.Sprint("pipeline=", n), func(b *testing.B) {
			_, replies := getSet(n)
			var f frames
			b.SetBytes(int64(len(replies)))
			b.ReportAllocs()
			for b.Loop() {
				for p := replies; len(p) > 0; {
					f.begin(false, false)
					k, _, _ := f.next(p)
					p = p[k:]
				}
			}
			perRequest(b, n)
		})
	}
}

// BenchmarkRelay is scanner, batch and lane together, without sockets.
func BenchmarkRelay(b *testing.B) {
	for _, n := range pipelines {
		b.Run(fmt.Sprint("pipeline=", n), func(b *testing.B) {
			requests, replies := getSet(n)
			sink := &count{}
			s, batch, l := Scanner{Intercept: isOurs}, Batch{}, NewLane(nil, sink, nil)
			b.ReportAllocs()
			for b.Loop() {
				relay(&s, &batch, l, sink, requests, replies)
			}
			perRequest(b, n)
		})
	}
}

// arrived is a Sink that tells when so many requests are answered.
type arrived struct {
	left, each int64
	done       chan struct{}
}

func (a *arrived) Reply(_ []byte, answered int64, _ bool) {
	if a.left -= answered; a.left == 0 {
		a.left = a.each
		a.done <- struct{}{}
	}
}

// BenchmarkLane is a lane over loopback, to a peer that answers each pipeline
// whole.
func BenchmarkLane(b *testing.B) {
	for _, n := range pipelines {
		b.Run(fmt.Sprint("pipeline=", n), func(b *testing.B) {
			requests, replies := getSet(n)
			here, there := socketPair(b)
			go answerWhole(there, len(requests), replies)
			sink := &arrived{int64(n), int64(n), make(chan struct{}, 1)}
			l := NewLane(here, sink, nil)
			go l.Run()
			s, batch := Scanner{Intercept: isOurs}, Batch{}
			b.ReportAllocs()
			for b.Loop() {
				batch.Clear()
				s.Scan(requests, &batch)
				if err := l.Send(sink, requests, &batch); err != nil {
					b.Fatal(err)
				}
				<-sink.done
			}
			perRequest(b, n)
			l.Close()
			<-l.Done()
		})
	}
}

// answerWhole replies whenever a pipeline of size bytes has arrived.
func answerWhole(conn net.Conn, size int, replies []byte) {
	buf := make([]byte, size)
	for {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		if _, err := conn.Write(replies); err != nil {
			return
		}
	}
}

func perRequest(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/request")
}

// BenchmarkLargeReply is what a byte of a large value costs.
func BenchmarkLargeReply(b *testing.B) {
	var f frames
	head := []byte("$1073741824\r\n")
	piece := bytes.Repeat([]byte("x"), 64<<10)
	b.SetBytes(int64(len(piece)))
	b.ReportAllocs()
	for b.Loop() {
		if f.skip == 0 {
			f.begin(false, false)
			f.next(head)
		}
		f.next(piece)
	}
}
