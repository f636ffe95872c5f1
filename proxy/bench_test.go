package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkSession relays GETs from a client to a peer that answers each
// pipeline whole; all four ends are in this process.
func BenchmarkSession(b *testing.B) {
	for _, n := range []int{1, 16, 100} {
		b.Run(fmt.Sprint("pipeline=", n), func(b *testing.B) {
			request, reply := []byte(resp("GET", "key:000000000042")), []byte(bulk("xxxxxxxxxxxxxxxx"))
			client, stop := served(b, n*len(request), bytes.Repeat(reply, n))
			pipelined(b, client, request, n, n*len(reply))
			stop()
		})
	}
}

// BenchmarkCommand is a command of ours that does nothing, between two GETs.
func BenchmarkCommand(b *testing.B) {
	get, reply := resp("GET", "key:000000000042"), bulk("xxxxxxxxxxxxxxxx")
	client, stop := served(b, len(get), []byte(reply))
	pipelined(b, client, []byte(get+resp("KS.NOW", "word")+get), 1, len(reply+"+word\r\n"+reply))
	stop()
}

// BenchmarkHits is a pipeline of commands of ours that are answered by one read each.
func BenchmarkHits(b *testing.B) {
	const n = 16
	request, read, reply := []byte(resp("KS.GET", "key:000000000042")), resp("GET", "key:000000000042"), bulk("xxxxxxxxxxxxxxxx")
	client, stop := served(b, len(read), []byte(reply))
	pipelined(b, client, []byte(request), n, n*len(reply))
	stop()
}

// pipelined sends a request n times at once, and reads replies of size bytes, again and again.
func pipelined(b *testing.B, client net.Conn, request []byte, n, size int) {
	b.Helper()
	requests, buf := bytes.Repeat(request, n), make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(requests); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/request")
}

// served connects a client, through a server, to a peer that sends replies for
// each size bytes that it gets.
func served(b *testing.B, size int, replies []byte) (client net.Conn, stop func()) {
	b.Helper()
	l := listen(b)
	server := New(Config{
		Listeners: []Listener{{Listener: l}}, Handler: newScript(),
		Dial: func(context.Context) (net.Conn, error) {
			here, there := connect(b)
			go answerWhole(there, size, replies)
			return here, nil
		},
	})
	go server.Serve()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	return client, func() {
		client.Close()
		server.Shutdown(context.Background())
	}
}

func answerWhole(conn net.Conn, size int, replies []byte) {
	defer conn.Close()
	buf, unanswered, out := make([]byte, 64<<10), 0, []byte(nil)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		out = out[:0]
		for unanswered += n; unanswered >= size; unanswered -= size {
			out = append(out, replies...)
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
