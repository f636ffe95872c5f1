package integration

import (
	"bytes"
	"slices"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// All differences between Redis and the proxy that the differential tests let
// pass are here, each with its reason. Whatever is not listed is a failure.

// allowance is a part of a reply that may differ: on each side, what matches
// is replaced by the same token before the comparison.
type allowance struct {
	name, reason string

	// when says for which scenarios it holds; nil: for all.
	when func(scenario) bool
	// matches may stand for the token on both sides, ours through the proxy only.
	matches, ours []pattern
	token         string
}

var allowanceList = []allowance{
	{
		name:    "the client id in HELLO's reply",
		reason:  "Redis numbers its connections, and the proxy has some of its own",
		matches: patterns("\r\nid\r\n", `\$2\r\nid\r\n:\d+\r\n`),
		token:   "$$2\r\nid\r\n:ID\r\n",
	},
	{
		name:    "the client id in the push tracking-redir-broken",
		reason:  "as for HELLO",
		matches: patterns("tracking-redir-broken", `(tracking-redir-broken\r\n:)\d+`),
		token:   "${1}ID",
	},
	{
		name: "numbers, addresses, times and buffer sizes in CLIENT INFO",
		reason: "Redis sees the proxy's address, and its reads are cut elsewhere; name, flags, " +
			"database, subscriptions, transaction, command, user and protocol must be equal",
		matches: patterns(" laddr=", `[$=]\d+\r\n(?:txt:)?id=\d+ addr=\S+ laddr=\S+ fd=\d+ (name=\S*) age=\d+ idle=\d+ `+
			`(flags=\S+ db=\d+ sub=\d+ psub=\d+ ssub=\d+ multi=-?\d+) qbuf=\d+ qbuf-free=\d+ argv-mem=\d+ multi-mem=\d+ `+
			`rbs=\d+ rbp=\d+ obl=\d+ oll=\d+ omem=\d+ tot-mem=\d+ events=\w+ (cmd=\S+ user=\S+ redir=-?\d+ resp=\d)\n`),
		token: "CLIENT $1 $2 $3\n",
	},
	{
		name: "the order in which UNSUBSCRIBE without arguments names the channels",
		reason: "Redis walks a hash table with a seed that is random for each process; " +
			"two redis-servers differ as well",
		matches: patterns("unsubscribe\r\n", `(\$\d+\r\n[ps]?unsubscribe\r\n)\$\d+\r\n[^\r]*\r\n`),
		token:   "${1}CHANNEL\r\n",
	},
	{
		name:    "commands that are not the client's in MONITOR's feed",
		reason:  "the test looks into both servers, and the proxy has connections of its own",
		when:    monitors,
		matches: ownFeed,
	},
	{
		name:    "time and address in MONITOR's feed",
		reason:  "time passes, and the proxy's address stands for the client's",
		when:    monitors,
		matches: patterns("] \"", `\+\d+\.\d{6} \[(\d+) (?:lua|unix:[^\]]*|[\d.:]+)\]`),
		token:   "+TIME [$1 ADDR]",
	},
	{
		name: "the reply of a KS command",
		reason: "that is what the proxy is for; Redis knows no such command. Where Redis refuses any " +
			"command (without authentication, behind MONITOR) it looks for an unknown one first",
		when: scenario.hasKS,
		matches: slices.Concat(
			patterns("unknown command", `-ERR unknown command '(?i:ks\.\w+)', with args beginning with: [^\r]*\r\n`),
			patterns("NOAUTH", `-NOAUTH Authentication required\.\r\n`),
			patterns("Replica", `-ERR Replica can't interact with the keyspace\r\n`)),
		ours: slices.Concat(
			patterns("Can't execute", `-ERR Can't execute 'ks\.\w+': [^\r]*\r\n`),
			patterns("wrong number", `-ERR wrong number of arguments for 'ks\.\w+' command\r\n`),
			patterns("*2\r\n$26\r\n", `\*2\r\n\$26\r\n[A-Z2-7]{26}\r\n:\d{16}\r\n`)),
		token: "<KS>",
	},
}

// ownFeed are lines of MONITOR about connections that are not the scenario's:
// the test's admin, and what the proxy does on its own behalf.
var ownFeed = patterns("] \"", `(?i)\+\d+\.\d{6} \[\d+ (?:lua|unix:[^\]]*|[\d.:]+)\] `+
	`"(?:ping" "settle|info" "(?:stats|clients)|[^\r]*ks/|client" "(?:info|list|setname|no-evict|id|setinfo)|hello|subscribe|config" "get|pubsub|acl" "whoami)[^\r]*\r\n|`+
	`\+\d+\.\d{6} \[\d+ (?:unix:[^\]]*|[\d.:]+)\] "(?i:ping)"\r\n`)

func monitors(sc scenario) bool { return sc.contains("MONITOR") }

// hasKS reports whether the scenario sends commands the proxy answers itself.
func (sc scenario) hasKS() bool { return sc.contains("KS.") }

// heldBack: the proxy holds the beginning of a request until it knows the name
// of the command, for it may be one of its own. So where Redis refuses a
// request for its argument count alone (without authentication, more than ten),
// and the client sends no more than that count, the refusal comes once the name
// has been sent. Scenarios that would see this are not cut.
//
// The same holds for a half request at the end of input: it need not reach Redis.

// Differences in how a connection ends.
const (
	// A close with unread input in the receive buffer is a reset in TCP, and
	// makes the other side's kernel drop what it has not sent. How much Redis has
	// read when it closes depends on how the input is spread over its reads, which
	// two hops do not preserve. So where a scenario makes Redis close in the
	// middle of input, one side may end by FIN and the other by RST, and the one
	// that was reset may have lost the end of its replies.
	resetInFlight = "FIN or RST when Redis closes while input is on its way"

	// After QUIT and after a protocol error Redis closes when it has written what
	// it had to reply. With replies off that never happens, unless a reply from
	// before was still waiting, because Redis has read both in one go (networking.c,
	// writeToClient). So whether such a connection is closed before the client
	// closes it depends on how the input is spread over Redis's reads.
	silentClose = "a close after QUIT or a protocol error while replies are off"
)

// closesSilently says that silentClose may come to pass.
func (sc scenario) closesSilently() bool {
	return sc.contains("OFF") || sc.contains("SKIP")
}

// ending allows connections to end differently, and nothing else.
func (a *allowances) ending(sc scenario, direct, proxied []byte, directEnd, end harness.End) bool {
	name := ""
	switch {
	case sc.closesSilently() && bytes.Equal(direct, proxied) && (directEnd == harness.Open) != (end == harness.Open):
		name = silentClose
	case sc.closesInFlight && directEnd != harness.Open && end != harness.Open &&
		lostByReset(direct, proxied, directEnd, end):
		name = resetInFlight
	default:
		return false
	}
	a.hit(name)
	return true
}

// lostByReset reports whether the replies are equal but for what a reset may
// have lost at their end.
func lostByReset(direct, proxied []byte, directEnd, end harness.End) bool {
	switch {
	case len(proxied) < len(direct):
		return end == harness.RST && bytes.HasPrefix(direct, proxied)
	case len(direct) < len(proxied):
		return directEnd == harness.RST && bytes.HasPrefix(proxied, direct)
	}
	return bytes.Equal(direct, proxied)
}
