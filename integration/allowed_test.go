package integration

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

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
	// direct and proxied match what may stand for the token on each side; the
	// token replaces the whole match.
	direct, proxied *regexp.Regexp
	token           string
}

var helloID = regexp.MustCompile(`\$2\r\nid\r\n:\d+\r\n`)

var redirBroken = regexp.MustCompile(`(tracking-redir-broken\r\n:)\d+`)

// unsubscribed is the acknowledgement of one channel, without its count.
var unsubscribed = regexp.MustCompile(`(\$\d+\r\n[ps]?unsubscribe\r\n)\$\d+\r\n[^\r]*\r\n`)

// feedLine is a line of MONITOR.
var feedLine = regexp.MustCompile(`\+\d+\.\d{6} \[(\d+) (?:lua|unix:[^\]]*|[\d.:]+)\]`)

// ownFeed are lines of MONITOR about connections that are not the scenario's:
// the test's admin, and what the proxy does on its own behalf.
var ownFeed = regexp.MustCompile(`(?i)\+\d+\.\d{6} \[\d+ (?:unix:[^\]]*|[\d.:]+)\] ` +
	`"(?:ping" "settle|info" "(?:stats|clients)|[^\r]*ks/|client" "(?:list|setname|no-evict|id|setinfo)|hello|subscribe|config" "get|pubsub|acl" "whoami)[^\r]*\r\n|` +
	`\+\d+\.\d{6} \[\d+ (?:unix:[^\]]*|[\d.:]+)\] "(?i:ping)"\r\n`)

// clientInfo is a line of CLIENT INFO or CLIENT LIST, with the length before it.
var clientInfo = regexp.MustCompile(`[$=]\d+\r\n(?:txt:)?id=\d+ addr=\S+ laddr=\S+ fd=\d+ (name=\S*) age=\d+ idle=\d+ ` +
	`(flags=\S+ db=\d+ sub=\d+ psub=\d+ ssub=\d+ multi=-?\d+) qbuf=\d+ qbuf-free=\d+ argv-mem=\d+ multi-mem=\d+ ` +
	`rbs=\d+ rbp=\d+ obl=\d+ oll=\d+ omem=\d+ tot-mem=\d+ events=\w+ (cmd=\S+ user=\S+ redir=-?\d+ resp=\d)\n`)

const (
	unknownKS = `-ERR unknown command '(?i:ks\.\w+)', with args beginning with: [^\r]*\r\n`
	noAuth    = `-NOAUTH Authentication required\.\r\n`
	onMonitor = `-ERR Replica can't interact with the keyspace\r\n`
)

// ksReply matches what the proxy answers to the KS commands of the scenarios,
// or Redis, where the proxy leaves the answer to it.
var ksReply = regexp.MustCompile(unknownKS + `|` + noAuth + `|` + onMonitor +
	`|-ERR Can't execute 'ks\.\w+': [^\r]*\r\n` +
	`|-ERR wrong number of arguments for 'ks\.\w+' command\r\n` +
	`|\*2\r\n\$26\r\n[A-Z2-7]{26}\r\n:\d{16}\r\n`)

var allowanceList = []allowance{
	{
		name:   "the client id in HELLO's reply",
		reason: "Redis numbers its connections, and the proxy has some of its own",
		direct: helloID, proxied: helloID,
		token: "$$2\r\nid\r\n:ID\r\n",
	},
	{
		name:   "the client id in the push tracking-redir-broken",
		reason: "as for HELLO",
		direct: redirBroken, proxied: redirBroken,
		token: "${1}ID",
	},
	{
		name:   "numbers, addresses, times and buffer sizes in CLIENT INFO",
		reason: "Redis sees the proxy's address, and its reads are cut elsewhere; name, flags, database, subscriptions, transaction, command, user and protocol must be equal",
		direct: clientInfo, proxied: clientInfo,
		token: "CLIENT $1 $2 $3\n",
	},
	{
		name: "the order in which UNSUBSCRIBE without arguments names the channels",
		reason: "Redis walks a hash table with a seed that is random for each process; " +
			"two redis-servers differ as well",
		direct: unsubscribed, proxied: unsubscribed,
		token: "${1}CHANNEL\r\n",
	},
	{
		name:   "commands that are not the client's in MONITOR's feed",
		reason: "the test looks into both servers, and the proxy has connections of its own",
		when:   monitors,
		direct: ownFeed, proxied: ownFeed,
	},
	{
		name:   "time and address in MONITOR's feed",
		reason: "time passes, and the proxy's address stands for the client's",
		when:   monitors,
		direct: feedLine, proxied: feedLine,
		token: "+TIME [$1 ADDR]",
	},
	{
		name:   "the reply of a KS command",
		reason: "that is what the proxy is for; Redis knows no such command",
		when:   scenario.hasKS,
		direct: regexp.MustCompile(unknownKS + `|` + noAuth + `|` + onMonitor), proxied: ksReply,
		token: "<KS>",
	},
}

func monitors(sc scenario) bool { return sc.contains("MONITOR") }

// hasKS reports whether the scenario sends commands the proxy answers itself.
func (sc scenario) hasKS() bool { return sc.contains("KS.") }

func (sc scenario) contains(word string) bool {
	return slices.ContainsFunc(sc.steps, func(st step) bool {
		return strings.Contains(strings.ToUpper(st.data), word)
	})
}

// allowances applies the list and counts how often each entry was needed.
type allowances struct {
	help string // the reply of KS.HELP, which is folded literally

	mu   sync.Mutex
	hits map[string]int
}

func newAllowances(help string) *allowances {
	return &allowances{help: help, hits: map[string]int{}}
}

// folding is the part of the list that holds for one scenario.
type folding struct {
	list []allowance
	help []byte
}

func (a *allowances) forScenario(sc scenario) folding {
	var f folding
	for _, entry := range allowanceList {
		if entry.when == nil || entry.when(sc) {
			f.list = append(f.list, entry)
		}
	}
	if sc.hasKS() {
		f.help = []byte(a.help)
	}
	return f
}

func (f folding) direct(b []byte) []byte {
	for _, entry := range f.list {
		b = entry.direct.ReplaceAll(b, []byte(entry.token))
	}
	return b
}

func (f folding) proxied(b []byte) []byte {
	if len(f.help) > 0 {
		b = bytes.ReplaceAll(b, f.help, []byte("<KS>"))
	}
	for _, entry := range f.list {
		b = entry.proxied.ReplaceAll(b, []byte(entry.token))
	}
	return b
}

// ends reports whether the folded form of b may be want, by a look at the end
// only: folding megabytes again and again while they arrive would take longer
// than their way here.
func (f folding) ends(b, want []byte) bool {
	const look, compare = 8 << 10, 16
	if len(b) <= look {
		return true
	}
	return bytes.HasSuffix(f.proxied(b[len(b)-look:]), want[max(0, len(want)-compare):])
}

// count notes which entries were needed to make direct and proxied equal.
func (a *allowances) count(direct, proxied []byte, f folding) {
	if bytes.Equal(direct, proxied) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, entry := range f.list {
		without := folding{slices.Delete(slices.Clone(f.list), i, i+1), f.help}
		if !bytes.Equal(without.direct(direct), without.proxied(proxied)) {
			a.hits[entry.name]++
		}
	}
}

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
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hits[name]++
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

// String lists what was allowed, and how often.
func (a *allowances) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.hits)) {
		fmt.Fprintf(&b, "\n  %7d  %s", a.hits[name], name)
	}
	return b.String()
}
