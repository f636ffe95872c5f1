package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// spilled returns a spillConn and its client, with nothing between them: a write
// blocks until the client reads.
func spilled(t *testing.T) (*spillConn, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	c := newSpillConn(here)
	t.Cleanup(func() { c.Close(); there.Close() })
	return c, there
}

// writeAll writes pieces, one after the other.
func (c *spillConn) writeAll(pieces ...string) <-chan error {
	done := make(chan error, 1)
	go func() {
		for _, p := range pieces {
			if n, err := c.Write([]byte(p)); err != nil || n != len(p) {
				done <- errors.Join(errors.New("short write"), err)
				return
			}
		}
		done <- nil
	}()
	return done
}

// state looks at a spillConn.
func (c *spillConn) state(look func() bool) func() bool {
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return look()
	}
}

func read(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("client got %.100q, %v; want %.100q", got[:n], err, want)
	}
}

func TestSpillDoesNotWaitForTheClient(t *testing.T) {
	c, client := spilled(t)
	c.Spill(true)
	if err := wait(t, c.writeAll("one", "two", "three"), "the writes"); err != nil {
		t.Fatal(err)
	}
	read(t, client, "onetwothree")
}

func TestSpillInterruptsAWriteThatBlocks(t *testing.T) {
	c, client := spilled(t)
	done := c.writeAll("one", "two", "three")
	eventually(t, "a write to block", c.state(func() bool { return c.writing }))
	c.Spill(true)
	if err := wait(t, done, "the writes"); err != nil {
		t.Fatal(err)
	}
	read(t, client, "onetwothree")
}

// The client has taken a part of what is interrupted.
func TestSpillKeepsTheRestOfAnInterruptedWrite(t *testing.T) {
	c, client := spilled(t)
	done := c.writeAll("one and two", "three")
	read(t, client, "one")
	c.Spill(true)
	if err := wait(t, done, "the writes"); err != nil {
		t.Fatal(err)
	}
	read(t, client, " and twothree")
}

// When the time is over writes block again, and come behind what was spilled.
func TestWritesAfterTheSpillWaitForIt(t *testing.T) {
	c, client := spilled(t)
	c.Spill(true)
	wait(t, c.writeAll("one"), "the write")
	c.Spill(false)
	done := c.writeAll("two", "three")
	read(t, client, "onetwo")
	select {
	case <-done:
		t.Error("a write did not wait for the client")
	default:
	}
	read(t, client, "three")
	if err := wait(t, done, "the writes"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the spill to be given back", c.state(func() bool { return !c.pouring && c.spill.pieces == nil }))
}

// Spilling on and off at any moment loses and reorders nothing.
func TestSpillOnAndOffKeepsTheOrder(t *testing.T) {
	c, client := spilled(t)
	var pieces []string
	for i := range 2000 {
		pieces = append(pieces, "<"+itoa(i)+">")
	}
	done := c.writeAll(pieces...)
	stop := make(chan struct{})
	toggled := make(chan struct{})
	go func() {
		defer close(toggled)
		for on := true; ; on = !on {
			select {
			case <-stop:
				c.Spill(false)
				return
			default:
				c.Spill(on)
			}
		}
	}()
	read(t, client, strings.Join(pieces, ""))
	if err := wait(t, done, "the writes"); err != nil {
		t.Error(err)
	}
	close(stop)
	<-toggled
}

func TestSpillIsBounded(t *testing.T) {
	c, client := spilled(t)
	c.Spill(true)
	piece := strings.Repeat("x", 1<<20)
	pieces := make([]string, 3*maxSpill/len(piece))
	for i := range pieces {
		pieces[i] = piece
	}
	done := c.writeAll(pieces...)
	eventually(t, "the spill to be full", c.state(func() bool { return c.spill.size >= maxSpill }))
	buf := make([]byte, len(piece))
	for left := len(pieces) * len(piece); left > 0; {
		n, err := client.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		left -= n
		c.mu.Lock()
		if size := c.spill.size; size > maxSpill+len(piece) {
			t.Errorf("%d bytes in the spill", size)
		}
		c.mu.Unlock()
	}
	if err := wait(t, done, "the writes"); err != nil {
		t.Error(err)
	}
}

func TestCloseFreesWhoWaitsForTheClient(t *testing.T) {
	for name, spilling := range map[string]bool{"writing": false, "spilling": true} {
		t.Run(name, func(t *testing.T) {
			c, _ := spilled(t)
			c.Spill(spilling)
			done := c.writeAll("one", strings.Repeat("x", maxSpill), strings.Repeat("x", maxSpill), "two")
			eventually(t, "a write to block", c.state(func() bool { return c.writing || c.spill.size >= maxSpill }))
			closed := make(chan struct{})
			go func() { c.Close(); close(closed) }()
			wait(t, closed, "Close")
			if err := wait(t, done, "the writes"); err == nil {
				t.Error("writes to a closed connection succeeded")
			}
		})
	}
}

func TestFINComesBehindTheSpill(t *testing.T) {
	here, there := connect(t)
	c := newSpillConn(here)
	t.Cleanup(func() { c.Close(); there.Close() })
	c.Spill(true)
	all := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if n, err := c.Write(all); n != len(all) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	done := make(chan error, 1)
	go func() { done <- c.CloseWrite() }()
	got, err := io.ReadAll(there)
	if !bytes.Equal(got, all) || err != nil {
		t.Errorf("client got %d bytes of %d, %v", len(got), len(all), err)
	}
	if err := wait(t, done, "CloseWrite"); err != nil {
		t.Error(err)
	}
}

// A large reply may be that of many clients; what comes from Redis lies in a buffer that is used again.
func TestTheSpillCopiesOnlyWhatMayChange(t *testing.T) {
	c, client := spilled(t)
	c.Spill(true)
	c.Write([]byte("taken and stuck "))
	eventually(t, "the first to be on its way", c.state(func() bool { return c.pouring && c.spill.size == 0 }))
	shared := bytes.Repeat([]byte("s"), 2*worthKeeping)
	buffer := bytes.Repeat([]byte("b"), 2*worthKeeping)
	c.WriteKept(shared)
	c.Write(buffer)
	c.WriteKept([]byte("small"))
	kept := c.state(func() bool { return &c.spill.pieces[0][0] == &shared[0] })
	if !kept() {
		t.Error("a reply that nobody changes was copied")
	}
	clear(buffer)
	read(t, client, "taken and stuck "+strings.Repeat("s", len(shared))+strings.Repeat("b", len(buffer))+"small")
}
