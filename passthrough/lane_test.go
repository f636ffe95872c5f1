package passthrough

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for an event that must come.
const patience = 20 * time.Second

// A recorder is a Sink that keeps what it gets.
type recorder struct {
	mu       sync.Mutex
	text     strings.Builder
	answered int64
	mid      bool
	changed  chan struct{} // capacity 1: something came
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}, 1)} }

func (r *recorder) Reply(p []byte, answered int64, mid bool) {
	r.mu.Lock()
	r.text.Write(p)
	r.answered += answered
	if len(p) > 0 {
		r.mid = mid
	}
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) got() (text string, answered int64, mid bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String(), r.answered, r.mid
}

// await waits until so many requests are answered and so many bytes came.
func (r *recorder) await(t *testing.T, answered int64, bytes int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, n, _ := r.got()
		if n >= answered && len(text) >= bytes {
			return
		}
		select {
		case <-r.changed:
		case <-deadline:
			t.Fatalf("%d requests answered, %d bytes; want %d and %d", n, len(text), answered, bytes)
		}
	}
}

// exchange is what a client sends, and all that Redis says to it.
type exchange struct{ request, reply string }

// batchOf scans requests, all of which must be passed on.
func batchOf(t *testing.T, requests string) *Batch {
	t.Helper()
	var s Scanner
	b := &Batch{}
	if n, _, v := s.Scan([]byte(requests), b); n != len(requests) || v != More {
		t.Fatalf("%q is no row of requests: took %d, verdict %d", requests, n, v)
	}
	return b
}

// played is what a lane made of exchanges.
type played struct {
	lane     *Lane
	owner    *recorder
	requests int64
	reply    string
	reason   string // why the lane became a pipe
}

// The ways in which requests and replies can meet.
const (
	inTurn    = iota // each request is sent when the one before it is answered
	pipelined        // all requests are sent before the first reply comes
)

// play drives a lane without a connection: requests are booked, replies fed in
// pieces.
func play(t *testing.T, exchanges []exchange, order int, split func([]byte) [][]byte) *played {
	t.Helper()
	p := &played{owner: newRecorder()}
	here, there := net.Pipe()
	there.Close()
	p.lane = NewLane(here, p.owner, func(reason string) { p.reason += reason })
	var s Scanner
	b := &Batch{}
	send := func(request string) {
		b.Clear()
		if n, _, _ := s.Scan([]byte(request), b); n != len(request) {
			t.Fatalf("%q is no row of requests", request)
		}
		p.requests += b.Requests()
		if !p.lane.Opaque() {
			p.lane.expect(p.owner, b)
		}
	}
	for _, x := range exchanges {
		p.reply += x.reply
		if order == pipelined {
			send(x.request)
		}
	}
	if order == pipelined {
		p.feed(split([]byte(p.reply)))
		return p
	}
	for _, x := range exchanges {
		send(x.request)
		p.feed(split([]byte(x.reply)))
	}
	return p
}

func (p *played) feed(pieces [][]byte) {
	for _, piece := range pieces {
		p.lane.feed(piece)
	}
}

// whole and bytewise are the extreme splits.
func whole(s []byte) [][]byte { return cut(s) }

func bytewise(s []byte) [][]byte {
	at := make([]int, len(s))
	for i := range at {
		at[i] = i
	}
	return cut(s, at...)
}

// everyWay plays exchanges in every order and split.
func everyWay(t *testing.T, exchanges []exchange, check func(t *testing.T, p *played)) {
	t.Helper()
	for order, orderName := range []string{"in turn", "pipelined"} {
		for i, split := range []func([]byte) [][]byte{whole, bytewise} {
			t.Run(fmt.Sprintf("%s, %s", orderName, []string{"whole", "bytewise"}[i]), func(t *testing.T) {
				check(t, play(t, exchanges, order, split))
			})
		}
	}
}

// brief shows a state in words.
func (s *State) brief() string {
	words := []string{fmt.Sprintf("db%d resp%d", s.DB, s.RESP)}
	for _, flag := range []struct {
		on   bool
		name string
	}{
		{s.Multi, "multi"},
		{s.Watched, "watched"},
		{s.Monitor, "monitor"},
		{s.Off, "off"},
		{s.Skip, "skip"},
		{s.Unsure, "unsure"},
		{s.Subscriber(), "subscriber"},
		{s.Subscribed() && !s.Subscriber(), "subscribed"},
	} {
		if flag.on {
			words = append(words, flag.name)
		}
	}
	return strings.Join(words, " ")
}

const (
	ok, pong, enqueued = "+OK\r\n", "+PONG\r\n", "+QUEUED\r\n"
	refusedInPubsub    = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
	hello3             = "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
	hello2             = "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:2\r\n"
	noauth             = "-NOAUTH Authentication required.\r\n"
)

// TestLaneFollowsItsConnectionByReplies has dialogues as Redis 7.0 holds them.
// After each, every request counts as answered, all that Redis said was passed
// on, and the lane knows the state of its connection.
func TestLaneFollowsItsConnectionByReplies(t *testing.T) {
	message, pmessage, smessage := array("message", "a", "x"), array("pmessage", "p*", "pa", "x"), array("smessage", "s", "x")
	for name, c := range map[string]struct {
		exchanges []exchange
		want      string
	}{
		"plain replies":                         {[]exchange{{"PING\r\n", pong}, {"GET k\r\n", bulk("v")}, {"GET n\r\n", "$-1\r\n"}}, "db0 resp2"},
		"SELECT":                                {[]exchange{{"SELECT 7\r\n", ok}}, "db7 resp2"},
		"SELECT refused":                        {[]exchange{{"SELECT 7\r\n", ok}, {"SELECT 99\r\n", "-ERR DB index is out of range\r\n"}}, "db7 resp2"},
		"HELLO 3":                               {[]exchange{{"HELLO 3\r\n", hello3}, {"GET k\r\n", "_\r\n"}}, "db0 resp3"},
		"HELLO 3 and back":                      {[]exchange{{"HELLO 3\r\n", hello3}, {"HELLO 2\r\n", hello2}}, "db0 resp2"},
		"HELLO refused":                         {[]exchange{{"HELLO 3\r\n", hello3}, {"HELLO 9\r\n", "-NOPROTO unsupported protocol version\r\n"}}, "db0 resp3"},
		"MULTI":                                 {[]exchange{{"MULTI\r\n", ok}, {"GET k\r\n", enqueued}}, "db0 resp2 multi"},
		"MULTI refused":                         {[]exchange{{"MULTI\r\n", noauth}}, "db0 resp2"},
		"MULTI twice":                           {[]exchange{{"MULTI\r\n", ok}, {"MULTI\r\n", "-ERR MULTI calls can not be nested\r\n"}}, "db0 resp2 multi"},
		"EXEC":                                  {[]exchange{{"MULTI\r\n", ok}, {"GET k\r\n", enqueued}, {"EXEC\r\n", array("v")}}, "db0 resp2"},
		"EXEC aborted by WATCH":                 {[]exchange{{"WATCH k\r\n", ok}, {"MULTI\r\n", ok}, {"SELECT 3\r\n", enqueued}, {"EXEC\r\n", "*-1\r\n"}}, "db0 resp2"},
		"EXEC aborted in RESP3":                 {[]exchange{{"HELLO 3\r\n", hello3}, {"MULTI\r\n", ok}, {"SELECT 3\r\n", enqueued}, {"EXEC\r\n", "_\r\n"}}, "db0 resp3"},
		"EXECABORT":                             {[]exchange{{"MULTI\r\n", ok}, {"SELECT 3\r\n", enqueued}, {"NO\r\n", "-ERR unknown command\r\n"}, {"EXEC\r\n", "-EXECABORT Transaction discarded because of previous errors.\r\n"}}, "db0 resp2"},
		"EXEC with an argument":                 {[]exchange{{"MULTI\r\n", ok}, {"EXEC x\r\n", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"}}, "db0 resp2"},
		"EXEC without MULTI":                    {[]exchange{{"EXEC\r\n", "-ERR EXEC without MULTI\r\n"}}, "db0 resp2"},
		"WATCH":                                 {[]exchange{{"WATCH k\r\n", ok}, {"GET k\r\n", bulk("v")}}, "db0 resp2 watched"},
		"WATCH refused":                         {[]exchange{{"WATCH k\r\n", "-NOPERM no\r\n"}, {"WATCH\r\n", "-ERR wrong number of arguments for 'watch' command\r\n"}}, "db0 resp2"},
		"WATCH twice, one refused":              {[]exchange{{"WATCH k\r\n", ok}, {"WATCH n\r\n", "-NOPERM no\r\n"}}, "db0 resp2 watched"},
		"WATCH and UNWATCH":                     {[]exchange{{"WATCH k\r\n", ok}, {"UNWATCH\r\n", ok}}, "db0 resp2"},
		"UNWATCH refused":                       {[]exchange{{"WATCH k\r\n", ok}, {"UNWATCH\r\n", "-NOPERM no\r\n"}}, "db0 resp2 watched"},
		"UNWATCH queued":                        {[]exchange{{"WATCH k\r\nMULTI\r\nUNWATCH\r\n", ok + ok + enqueued}}, "db0 resp2 multi watched"},
		"WATCH in MULTI":                        {[]exchange{{"MULTI\r\n", ok}, {"WATCH k\r\n", "-ERR WATCH inside MULTI is not allowed\r\n"}, {"DISCARD\r\n", ok}}, "db0 resp2"},
		"WATCH and EXEC":                        {[]exchange{{"WATCH k\r\nMULTI\r\n", ok + ok}, {"EXEC\r\n", "*0\r\n"}}, "db0 resp2"},
		"WATCH and EXEC without MULTI":          {[]exchange{{"WATCH k\r\n", ok}, {"EXEC\r\n", "-ERR EXEC without MULTI\r\n"}}, "db0 resp2 watched"},
		"WATCH and EXEC refused":                {[]exchange{{"WATCH k\r\n", ok}, {"EXEC x\r\n", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"}}, "db0 resp2"},
		"WATCH and DISCARD":                     {[]exchange{{"WATCH k\r\nMULTI\r\n", ok + ok}, {"DISCARD\r\n", ok}}, "db0 resp2"},
		"WATCH and DISCARD without MULTI":       {[]exchange{{"WATCH k\r\n", ok}, {"DISCARD\r\n", "-ERR DISCARD without MULTI\r\n"}}, "db0 resp2 watched"},
		"WATCH and RESET":                       {[]exchange{{"WATCH k\r\n", ok}, {"RESET\r\n", "+RESET\r\n"}}, "db0 resp2"},
		"WATCH outlives SELECT and HELLO":       {[]exchange{{"WATCH k\r\nSELECT 3\r\nHELLO 3\r\n", ok + ok + hello3}}, "db3 resp3 watched"},
		"WATCH under REPLY OFF":                 {[]exchange{{"CLIENT REPLY OFF\r\nWATCH k\r\nUNWATCH\r\nCLIENT REPLY ON\r\n", ok}}, "db0 resp2 watched"},
		"WATCH skipped":                         {[]exchange{{"CLIENT REPLY SKIP\r\nWATCH k\r\nPING\r\n", pong}}, "db0 resp2 watched"},
		"UNWATCH skipped":                       {[]exchange{{"WATCH k\r\n", ok}, {"CLIENT REPLY SKIP\r\nUNWATCH\r\nPING\r\n", pong}}, "db0 resp2 watched"},
		"UNWATCH under REPLY OFF of nothing":    {[]exchange{{"CLIENT REPLY OFF\r\nUNWATCH\r\nCLIENT REPLY ON\r\n", ok}}, "db0 resp2"},
		"DISCARD":                               {[]exchange{{"MULTI\r\n", ok}, {"SELECT 3\r\n", enqueued}, {"DISCARD\r\n", ok}}, "db0 resp2"},
		"DISCARD with an argument":              {[]exchange{{"MULTI\r\n", ok}, {"DISCARD x\r\n", "-ERR wrong number of arguments for 'discard' command\r\n"}}, "db0 resp2 multi"},
		"SELECT in MULTI":                       {[]exchange{{"MULTI\r\n", ok}, {"GET k\r\nSELECT 3\r\nGET k\r\n", enqueued + enqueued + enqueued}, {"EXEC\r\n", "*3\r\n" + bulk("v") + ok + "*2\r\n+OK\r\n:1\r\n"}}, "db3 resp2"},
		"SELECT failing in EXEC":                {[]exchange{{"MULTI\r\n", ok}, {"SELECT 3\r\nSELECT 99\r\n", enqueued + enqueued}, {"EXEC\r\n", "*2\r\n+OK\r\n-ERR DB index is out of range\r\n"}}, "db3 resp2"},
		"a queue-time error":                    {[]exchange{{"MULTI\r\n", ok}, {"SELECT 1 2\r\n", "-ERR wrong number of arguments\r\n"}, {"SELECT 3\r\n", enqueued}, {"DISCARD\r\n", ok}}, "db0 resp2"},
		"HELLO in MULTI":                        {[]exchange{{"MULTI\r\n", ok}, {"HELLO 3\r\nGET n\r\n", enqueued + enqueued}, {"EXEC\r\n", "*2\r\n" + hello3 + "_\r\n"}}, "db0 resp3"},
		"QUIT in MULTI":                         {[]exchange{{"MULTI\r\n", ok}, {"QUIT\r\n", ok}}, "db0 resp2 multi"},
		"RESET":                                 {[]exchange{{"SELECT 3\r\nHELLO 3\r\nMULTI\r\n", ok + hello3 + ok}, {"RESET\r\n", "+RESET\r\n"}}, "db0 resp2"},
		"RESET refused":                         {[]exchange{{"SELECT 3\r\n", ok}, {"RESET\r\n", "-NOPERM no\r\n"}}, "db3 resp2"},
		"a SELECT that says OK inside an array": {[]exchange{{"SELECT 3\r\n", "*1\r\n+OK\r\n"}}, "db0 resp2"},

		"SUBSCRIBE":                   {[]exchange{{"SUBSCRIBE a b\r\n", array("subscribe", "a", ":1") + array("subscribe", "b", ":2")}}, "db0 resp2 subscriber"},
		"SUBSCRIBE to the same twice": {[]exchange{{"SUBSCRIBE a a\r\nUNSUBSCRIBE a b a\r\nPING\r\n", array("subscribe", "a", ":1") + array("subscribe", "a", ":1") + array("unsubscribe", "a", ":0") + array("unsubscribe", "b", ":0") + array("unsubscribe", "a", ":0") + pong}}, "db0 resp2"},
		"SUBSCRIBE refused":           {[]exchange{{"SUBSCRIBE a b\r\n", "-NOPERM no\r\n"}, {"PING\r\n", pong}}, "db0 resp2"},
		"messages between":            {[]exchange{{"SUBSCRIBE a b\r\n", array("subscribe", "a", ":1") + message + array("subscribe", "b", ":2") + message}, {"PING\r\n", message + array("pong", "") + message}, {"GET k\r\n", refusedInPubsub}, {"UNSUBSCRIBE a\r\n", message + array("unsubscribe", "a", ":1")}}, "db0 resp2 subscriber"},
		"UNSUBSCRIBE from all":        {[]exchange{{"SUBSCRIBE a b c\r\n", array("subscribe", "a", ":1") + array("subscribe", "b", ":2") + array("subscribe", "c", ":3")}, {"UNSUBSCRIBE\r\n", array("unsubscribe", "b", ":2") + message + array("unsubscribe", "a", ":1") + array("unsubscribe", "c", ":0")}, {"PING\r\n", pong}}, "db0 resp2"},
		"UNSUBSCRIBE from none":       {[]exchange{{"UNSUBSCRIBE\r\n", array("unsubscribe", "nil", ":0")}, {"PUNSUBSCRIBE\r\n", array("punsubscribe", "nil", ":0")}, {"SUNSUBSCRIBE\r\n", array("sunsubscribe", "nil", ":0")}, {"PING\r\n", pong}}, "db0 resp2"},
		"channels, patterns and shards": {[]exchange{
			{"SSUBSCRIBE s t\r\n", array("ssubscribe", "s", ":1") + array("ssubscribe", "t", ":2")},
			{"SUBSCRIBE a b\r\n", array("subscribe", "a", ":1") + array("subscribe", "b", ":2")},
			{"PSUBSCRIBE p* q*\r\n", array("psubscribe", "p*", ":3") + array("psubscribe", "q*", ":4")},
			{"PING\r\n", pmessage + smessage + array("pong", "") + message},
			{"UNSUBSCRIBE\r\n", array("unsubscribe", "b", ":3") + array("unsubscribe", "a", ":2")},
			{"PUNSUBSCRIBE\r\n", array("punsubscribe", "p*", ":1") + array("punsubscribe", "q*", ":0")},
			{"SUNSUBSCRIBE\r\n", array("sunsubscribe", "t", ":1") + array("sunsubscribe", "s", ":0")},
			{"GET k\r\n", bulk("v")},
		}, "db0 resp2"},
		"a sunsubscribe nobody asked for": {[]exchange{{"SSUBSCRIBE s\r\n", array("ssubscribe", "s", ":1")}, {"PING\r\n", array("sunsubscribe", "s", ":0") + pong}}, "db0 resp2"},
		"RESET of a subscriber":           {[]exchange{{"SUBSCRIBE a\r\n", array("subscribe", "a", ":1")}, {"RESET\r\n", message + "+RESET\r\n"}, {"GET k\r\n", bulk("v")}}, "db0 resp2"},
		"a reply that looks like a message": {[]exchange{
			{"SUBSCRIBE a\r\nUNSUBSCRIBE\r\n", array("subscribe", "a", ":1") + array("unsubscribe", "a", ":0")},
			{"LRANGE l 0 -1\r\n", message},
			{"LRANGE l 0 -1\r\n", array("subscribe", "a", ":1")},
		}, "db0 resp2"},

		"SUBSCRIBE in RESP3":            {[]exchange{{"HELLO 3\r\nSUBSCRIBE a b\r\n", hello3 + push("subscribe", "a", ":1") + push("message", "a", "x") + push("subscribe", "b", ":2")}, {"GET k\r\n", push("message", "a", "x") + bulk("v")}}, "db0 resp3 subscribed"},
		"UNSUBSCRIBE all in RESP3":      {[]exchange{{"HELLO 3\r\nSUBSCRIBE a b\r\nPSUBSCRIBE p\r\n", hello3 + push("subscribe", "a", ":1") + push("subscribe", "b", ":2") + push("psubscribe", "p", ":3")}, {"UNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nPING\r\n", push("unsubscribe", "a", ":2") + push("unsubscribe", "b", ":1") + push("punsubscribe", "p", ":0") + pong}}, "db0 resp3"},
		"SUBSCRIBE refused in RESP3":    {[]exchange{{"HELLO 3\r\nSUBSCRIBE a b\r\nPING\r\n", hello3 + "-NOPERM no\r\n" + pong}}, "db0 resp3"},
		"pushes unasked":                {[]exchange{{"HELLO 3\r\n", hello3 + push("invalidate", "k")}, {"PING\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n" + pong + push("tracking-redir-broken", ":1")}}, "db0 resp3"},
		"a message within EXEC's reply": {[]exchange{{"HELLO 3\r\nSUBSCRIBE a\r\nMULTI\r\n", hello3 + push("subscribe", "a", ":1") + ok}, {"PUBLISH a x\r\nSELECT 2\r\n", enqueued + enqueued}, {"EXEC\r\n", "*2\r\n" + push("message", "a", "x") + ":1\r\n+OK\r\n"}, {"PING\r\n", pong}}, "db2 resp3 subscribed"},
		"an attribute":                  {[]exchange{{"HELLO 3\r\n", hello3}, {"GET k\r\n", "|1\r\n+ttl\r\n:5\r\n" + bulk("v")}, {"PING\r\n", pong}}, "db0 resp3"},
		"HELLO 2 of a subscriber":       {[]exchange{{"HELLO 3\r\nSUBSCRIBE a\r\n", hello3 + push("subscribe", "a", ":1")}, {"HELLO 2\r\n", hello2 + message}, {"PING\r\n", array("pong", "")}}, "db0 resp2 subscriber"},

		"MONITOR":         {[]exchange{{"MONITOR\r\n", ok + "+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n"}, {"PING\r\n", "+1339518083.107413 [0 lua] \"get\"\r\n" + pong + "+1339518083.107414 [0 127.0.0.1:60866] \"ping\"\r\n"}}, "db0 resp2 monitor"},
		"MONITOR refused": {[]exchange{{"MONITOR\r\n", noauth}, {"PING\r\n", pong}}, "db0 resp2"},
		"MONITOR left":    {[]exchange{{"MONITOR\r\n", ok}, {"RESET\r\n", "+1339518083.107413 [0 lua] \"get\"\r\n+RESET\r\n"}, {"GET k\r\n", "+1339518083.107413 [0 lua] \"a value\"\r\n"}}, "db0 resp2"},

		"SUBSCRIBE under REPLY OFF in RESP3": {[]exchange{{"HELLO 3\r\nSUBSCRIBE a\r\nCLIENT REPLY OFF\r\nPING\r\nUNSUBSCRIBE\r\nCLIENT REPLY ON\r\nPING\r\n", hello3 + push("subscribe", "a", ":1") + push("unsubscribe", "a", ":0") + ok + pong}}, "db0 resp3"},
		"REPLY OFF refused to a subscriber":  {[]exchange{{"SUBSCRIBE a\r\nCLIENT REPLY OFF\r\nPING\r\n", array("subscribe", "a", ":1") + refusedInPubsub + array("pong", "")}}, "db0 resp2 subscriber"},
		"SELECT under REPLY OFF":             {[]exchange{{"CLIENT REPLY OFF\r\nSELECT 3\r\nCLIENT REPLY ON\r\n", ok}}, "db0 resp2 unsure"},
		"HELLO skipped":                      {[]exchange{{"CLIENT REPLY SKIP\r\nHELLO 3\r\nPING\r\n", pong}}, "db0 resp2 unsure"},
		"REPLY OFF and RESET":                {[]exchange{{"CLIENT REPLY OFF\r\nPING\r\nRESET\r\nPING\r\n", "+RESET\r\n" + pong}}, "db0 resp2"},
	} {
		t.Run(name, func(t *testing.T) {
			everyWay(t, c.exchanges, func(t *testing.T, p *played) {
				text, answered, mid := p.owner.got()
				if text != p.reply || mid {
					t.Errorf("passed on %q, in the middle %v; want %q", text, mid, p.reply)
				}
				if answered != p.requests || p.lane.owed.head() != nil {
					t.Errorf("%d requests answered; want %d", answered, p.requests)
				}
				if got := p.lane.state.brief(); got != c.want {
					t.Errorf("state %q; want %q", got, c.want)
				}
				if p.reason != "" {
					t.Errorf("became a pipe: %s", p.reason)
				}
			})
		})
	}
}

// TestLaneStepsAsideWhereRepliesCannotBeCounted has dialogues after which a lane
// must be a pipe, told once why, with nothing lost.
func TestLaneStepsAsideWhereRepliesCannotBeCounted(t *testing.T) {
	for name, exchanges := range map[string][]exchange{
		"a reply nobody asked for":         {{"PING\r\n", pong + pong}, {"GET k\r\n", bulk("v")}},
		"an error at the start":            {{"", "-ERR max number of clients reached\r\n"}},
		"no RESP":                          {{"PING\r\n", "PONG?\r\n"}, {"PING\r\n", pong}},
		"no RESP within a reply":           {{"PING\r\n", "*2\r\n:1\r\nwhat\r\n"}},
		"SUBSCRIBE in MULTI":               {{"MULTI\r\n", ok}, {"SUBSCRIBE a b\r\n", enqueued}, {"EXEC\r\n", "*1\r\n" + array("subscribe", "a", ":1") + array("subscribe", "b", ":2")}, {"PING\r\n", array("pong", "")}},
		"SUBSCRIBE in MULTI, RESP3":        {{"HELLO 3\r\nMULTI\r\n", hello3 + ok}, {"SUBSCRIBE a\r\n", enqueued}, {"EXEC\r\n", "*1\r\n" + push("subscribe", "a", ":1")}},
		"CLIENT REPLY OFF in MULTI":        {{"MULTI\r\n", ok}, {"CLIENT REPLY OFF\r\n", enqueued}, {"EXEC\r\n", "*1\r\n"}},
		"CLIENT REPLY SKIP in MULTI":       {{"MULTI\r\n", ok}, {"CLIENT REPLY SKIP\r\n", enqueued}, {"EXEC\r\n", "*2\r\n"}},
		"CLIENT REPLY OFF refused":         {{"CLIENT REPLY OFF\r\n", noauth}, {"PING\r\n", noauth}},
		"CLIENT REPLY SKIP refused":        {{"CLIENT REPLY SKIP\r\n", noauth}, {"PING\r\n", noauth}},
		"SUBSCRIBE under CLIENT REPLY OFF": {{"CLIENT REPLY OFF\r\nSUBSCRIBE a\r\nPING\r\nUNSUBSCRIBE\r\nCLIENT REPLY ON\r\nPING\r\n", array("subscribe", "a", ":1") + array("unsubscribe", "a", ":0") + ok + pong}},
		"REPLY ON refused to a subscriber": {{"CLIENT REPLY OFF\r\nSUBSCRIBE a\r\nCLIENT REPLY ON\r\nPING\r\nRESET\r\nPING\r\n", array("subscribe", "a", ":1") + "+RESET\r\n" + pong}},
		"MULTI under CLIENT REPLY OFF":     {{"CLIENT REPLY OFF\r\n", ""}, {"MULTI\r\n", ""}},
		"RESET behind CLIENT REPLY SKIP":   {{"CLIENT REPLY SKIP\r\n", ""}, {"RESET\r\n", ""}, {"PING\r\n", pong}},
		"SUBSCRIBE behind SKIP":            {{"CLIENT REPLY SKIP\r\n", ""}, {"SUBSCRIBE a\r\n", array("subscribe", "a", ":1")}},
		"PSYNC":                            {{"PSYNC ? -1\r\n", "+FULLRESYNC abc 0\r\n\n$5\r\nRDB42*1\r\n$4\r\nPING\r\n"}},
		"REPLCONF, which may be silent":    {{"REPLCONF ACK 1\r\n", ""}, {"PING\r\n", pong}},
		"streamed strings of no Redis":     {{"GET k\r\n", "$?\r\n;4\r\nabcd\r\n;0\r\n"}},
		"a reply in MONITOR's place":       {{"MONITOR\r\n", ok + "+1339518083.107412 [0 lua] \"get\"\r\n-ERR what\r\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			everyWay(t, exchanges, func(t *testing.T, p *played) {
				text, _, mid := p.owner.got()
				if text != p.reply || mid {
					t.Errorf("passed on %q, in the middle %v; want %q", text, mid, p.reply)
				}
				if !p.lane.Opaque() || p.reason == "" {
					t.Error("is no pipe")
				}
			})
		})
	}
}

func TestPipeIsToldOnceAndCountsNoMore(t *testing.T) {
	p := play(t, nil, inTurn, whole)
	p.lane.Pipe("first")
	p.lane.Pipe("second")
	p.lane.feed([]byte("anything"))
	if text, answered, _ := p.owner.got(); p.reason != "first" || text != "anything" || answered != 0 {
		t.Errorf("told %q, passed on %q, %d answered", p.reason, text, answered)
	}
}
