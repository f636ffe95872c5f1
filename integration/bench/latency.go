package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/figures"
)

// gets is how many GETs the percentiles of a single client are taken from.
const gets = 20_000

// latency measures p50 and p99 in milliseconds with one client: a connection
// that sends pipeline GETs at once, waits for all replies, and so on. The
// percentiles are those of redis-benchmark's meaning, from the first byte sent
// to the last received.
//
// redis-benchmark isn't used for this one because it counts latencies in steps
// of 8 µs at this size, a fifth of what a direct round trip takes, so the ratio
// of two such figures says little. With a single blocking client the loader
// competes with nobody while it waits, which is why Go does here.
func latency(ctx context.Context, address string, pipeline int) (p50, p99 float64, err error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return roundTrips(conn, pipeline)
}

func roundTrips(conn net.Conn, pipeline int) (p50, p99 float64, err error) {
	request := []byte(strings.Repeat("*2\r\n$3\r\nGET\r\n$16\r\n"+key+"\r\n", pipeline))
	want := []byte(strings.Repeat("$3\r\nxxx\r\n", pipeline))
	reply := make([]byte, len(want))
	stream := bufio.NewReaderSize(conn, 64<<10)
	took := make([]time.Duration, 0, gets/pipeline)
	for range max(gets/pipeline, 1) {
		began := time.Now()
		if _, err := conn.Write(request); err != nil {
			return 0, 0, err
		}
		if _, err := io.ReadFull(stream, reply); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(began))
		if !bytes.Equal(reply, want) {
			return 0, 0, fmt.Errorf("GET is answered %.80q, want %.80q", reply, want)
		}
	}
	slices.Sort(took)
	return figures.Milliseconds(figures.Percentile(took, 50)), figures.Milliseconds(figures.Percentile(took, 99)), nil
}
