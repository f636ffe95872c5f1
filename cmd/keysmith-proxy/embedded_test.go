package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// talk is a connection on which commands are sent one at a time.
type talk struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func talkTo(t *testing.T, conn net.Conn, err error) *talk {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &talk{t, conn, bufio.NewReader(conn)}
}

// ask sends one inline command and returns the first line of its reply, and the
// value if that is a bulk string.
func (c *talk) ask(command string) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", asArray(command)); err != nil {
		c.t.Fatal(command, err)
	}
	return c.read()
}

func (c *talk) read() string {
	c.t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	if line[0] == '$' && line != "$-1" {
		line, err = c.in.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSpace(line)
	}
	return line
}

// asArray encodes a command, for miniredis knows no inline ones.
func asArray(command string) string {
	words := strings.Fields(command)
	var b strings.Builder
	fmt.Fprintf(&b, "*%d", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "\r\n$%d\r\n%s", len(w), w)
	}
	return b.String()
}

// number asks for an integer, or the first of an array.
func (c *talk) number(command string) int64 {
	c.t.Helper()
	got := c.ask(command)
	for got[0] == '*' {
		got = c.read()
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(got, ":"), 10, 64)
	if err != nil {
		c.t.Fatalf("%s: %s", command, got)
	}
	return n
}

func startForTest(t *testing.T) *embedded {
	t.Helper()
	e, err := startEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	return e
}

// waitUntil asks again until ok says so.
func (c *talk) waitUntil(command string, ok func(reply string) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(c.ask(command)); {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s never came out right", command)
		}
	}
}

func TestKeysOfTheEmbeddedRedisExpireByThemselves(t *testing.T) {
	e := startForTest(t)
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	begin := time.Now()
	c.ask("SET lock token PX 60")
	c.ask("SET other value PX 100000")
	c.ask("HSET hash field value")
	c.ask("PEXPIRE hash 30")
	c.waitUntil("GET lock", func(r string) bool { return r == "$-1" })
	// The key is set at the latest tick, which may lie a bit before the SET.
	if took := time.Since(begin); took < 60*time.Millisecond-2*tick {
		t.Errorf("it was gone after %v", took)
	}
	if got := c.ask("GET other") + c.ask("EXISTS hash"); got != "value:0" {
		t.Errorf("got %s", got)
	}
}

func TestTheEmbeddedRedisAgesKeysOnceAndAtThePaceOfItsTime(t *testing.T) {
	e := startForTest(t)
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	c.ask("SET k v PX 1000000")
	const script = "EVAL return{redis.call('PTTL','k')+redis.call('TIME')[1]*1000+math.floor(redis.call('TIME')[2]/1000)} 0"
	first := c.number(script)
	left := c.number("PTTL k")
	c.waitUntil("PTTL k", func(r string) bool {
		n, err := strconv.ParseInt(r[1:], 10, 64)
		return err == nil && n <= left-100
	})
	if second := c.number(script); second < first-1 || second > first+1 {
		t.Errorf("the instant at which the key expires moved by %d ms", second-first)
	}
}

func TestTheEmbeddedRedisTellsTheTimeOfTheClock(t *testing.T) {
	e := startForTest(t)
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	c.waitUntil("TIME", func(r string) bool {
		seconds, err := strconv.ParseInt(c.read(), 10, 64)
		c.read()
		return err == nil && r == "*2" && time.Since(time.Unix(seconds, 0)).Abs() < 3*time.Second
	})
}

func TestAStoppedEmbeddedRedisCatchesUpWithTheClock(t *testing.T) {
	e := startForTest(t)
	e.stop() // as if the process stood still
	e.done.Wait()
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	c.ask("SET k v PX 100000")
	if got := c.number("PTTL k"); got != 100000 {
		t.Errorf("PTTL %d", got)
	}
	e.tell(time.Now().Add(60 * time.Second))
	if got := c.number("PTTL k"); got > 40000 || got < 39000 {
		t.Errorf("PTTL %d", got)
	}
	e.tell(time.Now().Add(101 * time.Second))
	if got := c.ask("GET k"); got != "$-1" {
		t.Errorf("GET %s", got)
	}
}

func TestAConnectionToTheEmbeddedRedisCanBeHalfClosed(t *testing.T) {
	e := startForTest(t)
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	const n = 100
	fmt.Fprint(conn, strings.Repeat("*1\r\n$4\r\nPING\r\n", n))
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if got := c.read(); got != "+PONG" {
			t.Fatal(got)
		}
	}
	if b, err := c.in.ReadByte(); err == nil {
		t.Errorf("got %q after the last reply", b)
	}
}

// redis-cli asks COMMAND DOCS when it starts, and aborts on a reply of another form.
func TestTheEmbeddedRedisRefusesCommandsItDoesNotKnow(t *testing.T) {
	e, err := startEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	if got, want := c.ask("COMMAND DOCS"), "-ERR unknown subcommand 'DOCS'. Try COMMAND HELP."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := c.ask("COMMAND"); got != "*200" {
		t.Errorf("COMMAND: %q", got)
	}
}

func TestClosingTheEmbeddedRedisLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	e, err := startEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.dial()
	c := talkTo(t, conn, err)
	if got := c.ask("PING"); got != "+PONG" {
		t.Errorf("got %s", got)
	}
	fmt.Fprint(conn, "*3\r\n$5\r\nBLPOP\r\n$1\r\nk\r\n$1\r\n0\r\n")
	e.close()
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
	if _, err := e.dial(); err == nil {
		t.Error("a closed one takes connections")
	}
}

// BenchmarkTickWithManyKeys shows what aging costs, and so how long a command
// may have to wait for it.
func BenchmarkTickWithManyKeys(b *testing.B) {
	e, err := startEmbedded()
	if err != nil {
		b.Fatal(err)
	}
	defer e.close()
	db := e.redis.DB(0)
	for i := range 10_000 {
		db.Set(strconv.Itoa(i), "v")
	}
	for b.Loop() {
		e.tell(time.Now())
	}
}
