package integration

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// side is one of the two ways to Redis: directly or through the proxy. Each has
// a redis-server of its own, in the same state.
type side struct {
	redis *harness.Redis
	// connect opens a client connection.
	connect func(t testing.TB) *harness.Conn

	// admin is a connection to the redis-server itself. Redis is one thread
	// that serves its connections in turn, so an answer to admin proves that
	// what arrived before was handled.
	admin    *harness.Conn
	testSent int64 // bytes that are no scenario's: written to admin, or by the pair's probe

	clientsBefore int      // connections before the scenario
	monitored     bool     // a client of the scenario uses MONITOR
	identified    []string // connections whose CLIENT ID the scenario uses

	conns map[string]*client
	order []string // keys of conns as they were opened
}

// client is a connection of the running scenario.
type client struct {
	*harness.Conn
	id   string // its CLIENT ID, where the scenario uses it
	skip int    // bytes at the beginning that are the test's own business
	gone bool   // closed or reset by the scenario
	// ksSent: a KS command was sent on it, through the proxy.
	ksSent bool
}

func newSide(t testing.TB, redis *harness.Redis, connect func(testing.TB) *harness.Conn) *side {
	t.Helper()
	s := &side{redis: redis, connect: connect, admin: redis.Dial(t), conns: map[string]*client{}}
	return s
}

// run executes one command on the redis-server itself.
func (s *side) run(t testing.TB, args ...string) string {
	t.Helper()
	s.testSent += int64(len(harness.Command(args...)))
	return s.admin.Do(t, args...)
}

// words matches the arguments of a command line.
var words = regexp.MustCompile(`'[^']*'|\S+`)

// runLine is run with the command line split at spaces, except inside single
// quotes. An error reply fails the test.
func (s *side) runLine(t testing.TB, line string) {
	t.Helper()
	args := words.FindAllString(line, -1)
	for i, arg := range args {
		args[i] = strings.Trim(arg, "'")
	}
	if reply := s.run(t, args...); reply[0] == '-' {
		t.Fatalf("%s: %s", line, reply)
	}
}

// netInput is the number of bytes Redis has read, without the test's own.
func (s *side) netInput(t testing.TB) int64 {
	t.Helper()
	info := s.run(t, "INFO", "stats")
	n, err := harness.InfoField(info, "total_net_input_bytes")
	if err != nil {
		t.Fatal(err)
	}
	return n - s.testSent
}

// clients is the number of connections Redis has, admin among them, without
// those the proxy has opened on its own behalf.
func (s *side) clients(t testing.TB) int {
	t.Helper()
	list := s.run(t, "CLIENT", "LIST")
	return strings.Count(list, "laddr=") - strings.Count(list, " name=keysmith-proxy ")
}

// awaitClients waits until Redis has at most n connections.
func (s *side) awaitClients(t testing.TB, n int) {
	t.Helper()
	await(t, fmt.Sprintf("at most %d connections at Redis", n), func() bool { return s.clients(t) <= n })
}

// awaitInput waits until Redis has read n bytes, or the connection ended.
func (s *side) awaitInput(t testing.TB, n int64, c *client) {
	t.Helper()
	what := fmt.Sprintf("%d bytes of input at Redis", n)
	await(t, what, func() bool {
		if _, end := c.Received(); end != harness.Open {
			return true
		}
		return s.netInput(t) >= n
	})
}

// open returns the scenario's connection of that name.
func (s *side) open(t testing.TB, name string) *client {
	t.Helper()
	c := s.conns[name]
	if c == nil {
		c = &client{Conn: s.connect(t)}
		s.conns[name] = c
		s.order = append(s.order, name)
		if slices.Contains(s.identified, name) {
			reply := c.Do(t, "CLIENT", "ID")
			c.id, c.skip = strings.Trim(reply, ":\r\n"), len(reply)
		}
	}
	return c
}

// idMark stands for the CLIENT ID of a connection.
var idMark = regexp.MustCompile(`\{id:(\w+)\}`)

// identify notes which connections the scenario wants to know the ids of.
func (s *side) identify(sc scenario) {
	s.identified = s.identified[:0]
	for _, st := range sc.steps {
		for _, mark := range idMark.FindAllStringSubmatch(st.data, -1) {
			s.identified = append(s.identified, mark[1])
		}
	}
}

// expand fills in the client ids that data asks for.
func (s *side) expand(t testing.TB, data string) string {
	t.Helper()
	return idMark.ReplaceAllStringFunc(data, func(mark string) string {
		return s.open(t, idMark.FindStringSubmatch(mark)[1]).id
	})
}

// write sends one piece; a connection that the server has ended takes no more.
func (s *side) write(t testing.TB, c *client, piece string) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(harness.Patience))
	_, err := c.Write([]byte(piece))
	if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("write %s: %v", abridged(piece), err)
	}
}

// settle waits until Redis has answered all it has read and the answers have
// arrived here. Only for connections straight to Redis.
func (s *side) settle(t testing.TB) {
	t.Helper()
	for before := -1; ; {
		s.run(t, "PING", "settle")
		total := 0
		for _, c := range s.conns {
			if !c.gone {
				received, end := c.Drain(t)
				if s.monitored { // each look into the server shows in the feed
					received = replace(ownFeed, received, "")
				}
				total += len(received) + int(end)
			}
		}
		if total == before {
			return
		}
		before = total
	}
}

// begin prepares the server for sc.
func (s *side) begin(t testing.TB, sc scenario) {
	t.Helper()
	s.clientsBefore = s.clients(t)
	s.monitored = monitors(sc)
	s.identify(sc)
	for _, line := range sc.admin {
		s.runLine(t, line)
	}
}

// end closes all connections of sc, waits until Redis knows, and brings the
// server back to how it was started.
func (s *side) end(t testing.TB, sc scenario) {
	t.Helper()
	for _, c := range s.conns {
		c.Close()
	}
	clear(s.conns)
	s.order = s.order[:0]
	for _, line := range sc.restore {
		s.runLine(t, line)
	}
	s.awaitClients(t, s.clientsBefore)
	s.runLine(t, "FLUSHALL")
	for _, line := range s.stains(sc) {
		s.runLine(t, line)
	}
}

// stains lists what cleans up after the commands in sc that leave more behind
// than keys.
func (s *side) stains(sc scenario) []string {
	var lines []string
	if sc.contains("EVAL") || sc.contains("SCRIPT") {
		lines = append(lines, "SCRIPT FLUSH")
	}
	if sc.contains("FUNCTION") {
		lines = append(lines, "FUNCTION FLUSH")
	}
	return lines
}

// await polls for a condition that nothing signals. The short pause only keeps
// the polling from burning the processor that others wait for.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(harness.Patience)
	for tries := 0; !done(); tries++ {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", harness.Patience, what)
		}
		if tries > 10 {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// dialer connects plainly to addr.
func dialer(network, addr string) func(testing.TB) *harness.Conn {
	return func(t testing.TB) *harness.Conn {
		t.Helper()
		nc, err := net.DialTimeout(network, addr, harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		return harness.NewConn(nc)
	}
}
