package passthrough

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func plain(n int) []event { return make([]event, n) }

// TestScannerFindsRequestsWhereRedisFindsThem has what Redis was seen to make
// of each input; what isn't odd is passed on to the last byte.
func TestScannerFindsRequestsWhereRedisFindsThem(t *testing.T) {
	x := strings.Repeat
	for name, c := range map[string]struct {
		in   string
		want scanned // events, commands and odd
		held int
	}{
		"a request in RESP":                    {in: resp("GET", "k"), want: scanned{events: plain(1)}},
		"a pipeline":                           {in: x(resp("GET", "k"), 5), want: scanned{events: plain(5)}},
		"an inline request":                    {in: "PING\r\n", want: scanned{events: plain(1)}},
		"an inline request ended by LF":        {in: "PING\n", want: scanned{events: plain(1)}},
		"inline with quotes":                   {in: "ECHO \"a\\x41 b\"\r\n", want: scanned{events: plain(1)}},
		"inline with unbalanced quotes":        {in: "ECHO \"a\r\nPING\r\n", want: scanned{odd: true}},
		"inline with a quote in the middle":    {in: "ECHO \"a\"b\r\n", want: scanned{odd: true}},
		"an empty line":                        {in: "\r\nPING\r\n", want: scanned{events: plain(1)}},
		"a lone LF":                            {in: "\nPING\r\n", want: scanned{events: plain(1)}},
		"a line of spaces":                     {in: "  \t \r\nPING\r\n", want: scanned{events: plain(1)}},
		"an empty array":                       {in: "*0\r\nPING\r\n", want: scanned{events: plain(1)}},
		"a null array":                         {in: "*-1\r\nPING\r\n", want: scanned{events: plain(1)}},
		"a negative count":                     {in: "*-5\r\nPING\r\n", want: scanned{events: plain(1)}},
		"a count with a plus":                  {in: "*+1\r\n$4\r\nPING\r\n", want: scanned{odd: true}},
		"a count with a leading zero":          {in: "*01\r\n$4\r\nPING\r\n", want: scanned{odd: true}},
		"a count with a space":                 {in: "* 1\r\n$4\r\nPING\r\n", want: scanned{odd: true}},
		"minus zero":                           {in: "*-0\r\n", want: scanned{odd: true}},
		"no count":                             {in: "*\r\n", want: scanned{odd: true}},
		"a count beyond INT_MAX":               {in: "*2147483648\r\n", want: scanned{odd: true}},
		"a count of INT_MAX":                   {in: "*2147483647\r\n$1\r\nX\r\n", want: scanned{events: plain(1)}},
		"a count beyond 64 bits":               {in: "*99999999999999999999999999\r\n", want: scanned{odd: true}},
		"a negative length":                    {in: "*1\r\n$-1\r\n", want: scanned{odd: true}},
		"no bulk string":                       {in: "*1\r\n:1\r\n", want: scanned{odd: true}},
		"no bulk string later on":              {in: "*2\r\n$3\r\nGET\r\n:1\r\n", want: scanned{events: plain(1), odd: true}},
		"any byte behind CR":                   {in: "*1\rX$4\rXPING\rX" + resp("PING"), want: scanned{events: plain(2)}},
		"any two bytes behind a bulk string":   {in: "*1\r\n$4\r\nPINGXY" + resp("PING"), want: scanned{events: plain(2)}},
		"a line end without CR":                {in: "*1\n$4\nPING\n", want: scanned{odd: true}},
		"NUL in an inline request":             {in: "PI\x00NG\r\nPING\r\n", want: scanned{odd: true}},
		"NUL where the line has no end yet":    {in: "PI\x00NG", want: scanned{odd: true}},
		"a leading dollar, inline to Redis":    {in: "$4\r\nPING\r\n", want: scanned{events: plain(2)}},
		"a TLS handshake":                      {in: "\x16\x03\x01\x02\x00\x01", want: scanned{odd: true}},
		"an empty name":                        {in: "*1\r\n$0\r\n\r\n", want: scanned{events: plain(1)}},
		"a long name":                          {in: "*1\r\n$70\r\n" + x("n", 70) + "\r\n", want: scanned{events: plain(1)}},
		"HTTP":                                 {in: "POST / HTTP/1.1\r\nHost: x\r\n", want: scanned{events: plain(2)}},
		"a command of ours":                    {in: resp("ks.lock", "a"), want: scanned{commands: []string{resp("ks.lock", "a")}}},
		"a command of ours, inline":            {in: "KS.LOCK a\r\n", want: scanned{commands: []string{"KS.LOCK a\r\n"}}},
		"a command of ours, quoted":            {in: "\"KS\\x2eLOCK\" a\n", want: scanned{commands: []string{"\"KS\\x2eLOCK\" a\n"}}},
		"a command of ours between others":     {in: "PING\r\n" + resp("KS.X") + "PING\r\n", want: scanned{events: plain(2), commands: []string{resp("KS.X")}}},
		"a command of ours, odd further on":    {in: "*2\r\n$4\r\nKS.X\r\n$x\r\n", want: scanned{odd: true}},
		"a command of ours behind QUIT":        {in: "QUIT\r\n" + resp("KS.X"), want: scanned{events: []event{{Quit, 0}, {}}}},
		"half a header":                        {in: "*2\r\n$3", held: 6},
		"half a name":                          {in: "*2\r\n$3\r\nGE", held: 10},
		"half a line":                          {in: "PIN", held: 3},
		"half a command of ours":               {in: "PING\r\n*2\r\n$4\r\nKS.X\r\n$3\r\nab", want: scanned{events: plain(1)}},
		"an argument in part":                  {in: "*2\r\n$3\r\nGET\r\n$100\r\nabc", want: scanned{events: plain(1)}},
		"MULTI and EXEC":                       {in: "MULTI\r\nEXEC\r\n" + resp("dIscard"), want: scanned{events: []event{{Multi, 0}, {Exec, 0}, {Discard, 0}}}},
		"WATCH and UNWATCH":                    {in: "WATCH k l\r\n" + resp("unwatch") + resp("Watch", "k"), want: scanned{events: []event{{Watch, 0}, {Unwatch, 0}, {Watch, 0}}}},
		"SELECT":                               {in: resp("SELECT", "7") + "select 8\r\n", want: scanned{events: []event{{Select, 7}, {Select, 8}}}},
		"SELECT of no number":                  {in: resp("SELECT", "07") + resp("SELECT") + resp("SELECT", "1", "2"), want: scanned{events: plain(3)}},
		"SELECT of something long":             {in: resp("SELECT", x("1", 100)), want: scanned{events: plain(1)}},
		"CLIENT REPLY":                         {in: resp("client", "reply", "on") + resp("CLIENT", "REPLY", "OFF") + "CLIENT REPLY skip\r\n", want: scanned{events: []event{{ReplyOn, 0}, {ReplyOff, 0}, {ReplySkip, 0}}}},
		"CLIENT REPLY in wrong forms":          {in: resp("CLIENT", "REPLY") + resp("CLIENT", "REPLY", "FOO") + resp("CLIENT", "REPLY", "ON", "x") + resp("CLIENT", "ID"), want: scanned{events: plain(4)}},
		"the SUBSCRIBE family":                 {in: resp("SUBSCRIBE", "a", "b") + "psubscribe p\r\nSSUBSCRIBE s\r\n" + resp("UNSUBSCRIBE") + resp("PUNSUBSCRIBE", "p") + resp("SUNSUBSCRIBE"), want: scanned{events: []event{{Subscribe, 2}, {PSubscribe, 1}, {SSubscribe, 1}, {Unsubscribe, 0}, {PUnsubscribe, 1}, {SUnsubscribe, 0}}}},
		"SUBSCRIBE of nothing":                 {in: resp("SUBSCRIBE"), want: scanned{events: plain(1)}},
		"RESET, HELLO, MONITOR, QUIT":          {in: resp("RESET") + resp("HELLO", "3") + resp("MONITOR") + resp("QUIT"), want: scanned{events: []event{{Reset, 0}, {Hello, 0}, {Monitor, 0}, {Quit, 0}}}},
		"RESET with an argument":               {in: resp("RESET", "x"), want: scanned{events: plain(1)}},
		"replication":                          {in: "SYNC\r\n", want: scanned{events: []event{{Replica, 0}}}},
		"a blocking command":                   {in: resp("BLPOP", "k", "0"), want: scanned{events: plain(1), blocking: true}},
		"SELECT behind much else in one piece": {in: x(resp("GET", "k"), 100) + resp("SELECT", "7"), want: scanned{events: append(plain(100), event{Select, 7})}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range splits([]byte(c.in)) {
				got := scan(pieces)
				if !reflect.DeepEqual(got.events, c.want.events) && len(got.events)+len(c.want.events) > 0 {
					t.Fatalf("cut into %d: requests %v; want %v", len(pieces), got.events, c.want.events)
				}
				if !reflect.DeepEqual(got.commands, c.want.commands) || got.odd != c.want.odd || got.blocking != c.want.blocking {
					t.Fatalf("cut into %d: %+v; want %+v", len(pieces), got, c.want)
				}
				if got.order != c.in || got.uncounted != 0 {
					t.Fatalf("cut into %d: bytes %q, %d requests uncounted; want %q", len(pieces), got.order, got.uncounted, c.in)
				}
				if got.leftover != c.held {
					t.Fatalf("cut into %d: holds back %d bytes; want %d", len(pieces), got.leftover, c.held)
				}
			}
		})
	}
}

// Redis steps its CLIENT REPLY SKIP on an empty request, so that is noted
// behind a SKIP, and only there.
func TestScannerNotesAnEmptyRequestBehindSkip(t *testing.T) {
	for in, want := range map[string]string{
		"CLIENT REPLY SKIP\r\n\r\nPING\r\n":       "skip empty plain",
		"CLIENT REPLY SKIP\r\n*0\r\n\r\nPING\r\n": "skip empty plain",
		"\r\nPING\r\n\r\nPING\r\n":                "plain plain",
		"CLIENT REPLY SKIP\r\nPING\r\n\r\n":       "skip plain",
	} {
		for _, pieces := range splits([]byte(in)) {
			var s Scanner
			var b Batch
			var buf []byte
			var got []string
			for _, piece := range pieces {
				buf = append(buf, piece...)
				b.Clear()
				n, _, _ := s.Scan(buf, &b)
				buf = buf[n:]
				for _, r := range b.runs {
					for range r.n {
						got = append(got, map[Effect]string{Plain: "plain", Empty: "empty", ReplySkip: "skip"}[r.effect])
					}
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%q in %d pieces: %v; want %s", in, len(pieces), got, want)
			}
		}
	}
}

// A line whose end has not come is held back; where it is longer than what
// Redis would wait for, it is passed on if its name is plain.
func TestScannerPassesOnAnInlineRequestThatIsTooLongToHold(t *testing.T) {
	long := "ECHO " + strings.Repeat("x", 2*maxInline) + "\r\n"
	in := []byte(long + "PING\r\n")
	for _, pieces := range [][][]byte{cut(in), cut(in, maxInline), cut(in, 10, maxInline+10, len(long)-1), cut(in, maxInline+1, len(long))} {
		got := scan(pieces)
		if got.odd || len(got.events) != 2 || got.order != string(in) {
			t.Errorf("%d requests, odd %v", len(got.events), got.odd)
		}
	}
	held := scan(cut(in[:maxInline]))
	if held.leftover != maxInline || held.within {
		t.Errorf("of %d bytes %d are held back, within %v; want all", maxInline, held.leftover, held.within)
	}
	passed := scan(cut(in[:maxInline+1]))
	if passed.leftover != 0 || !passed.within || len(passed.events) != 1 {
		t.Errorf("of %d bytes %d are held back, %d requests; want none, 1", maxInline+1, passed.leftover, len(passed.events))
	}
	for _, name := range []string{"SUBSCRIBE", "\"ECHO\"", "KS.LOCK", ""} {
		line := name + " " + strings.Repeat("x", maxInline)
		if got := scan(cut([]byte(line))); !got.odd || got.order != line {
			t.Errorf("a long line of %q: odd %v; want true", name, got.odd)
		}
	}
	nul := append([]byte(long[:maxInline+1]), "xx\x00xx\n"...)
	if got := scan(cut(nul, maxInline+1)); !got.odd || got.order != string(nul) {
		t.Errorf("NUL in the rest of a long line: odd %v; want true", got.odd)
	}
}

// Only the beginning of a request is held back: arguments pass by as they come.
func TestScannerStreamsArguments(t *testing.T) {
	var s Scanner
	var b Batch
	head := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n"
	if n, _, v := s.Scan([]byte(head), &b); n != len(head) || v != More {
		t.Fatalf("took %d of the head, verdict %d", n, v)
	}
	piece := bytes.Repeat([]byte("v"), 1000)
	for range 100 {
		if n, _, v := s.Scan(piece, &b); n != len(piece) || v != More || !s.Within() {
			t.Fatalf("took %d of a piece of the argument, verdict %d", n, v)
		}
	}
	if n, _, _ := s.Scan([]byte("\r\nPING\r\n"), &b); n != 8 || b.Requests() != 2 || s.Within() {
		t.Fatalf("took %d behind the argument, %d requests; want 8, 2", n, b.Requests())
	}
}

// A read may end anywhere within a command whose arguments matter, however much
// was read before it.
func TestScannerWaitsForTheArgumentsThatMatter(t *testing.T) {
	before := strings.Repeat(resp("GET", "k"), 10000)
	for _, c := range []struct {
		request string
		want    event
	}{
		{resp("SELECT", "7"), event{Select, 7}},
		{resp("CLIENT", "REPLY", "OFF"), event{ReplyOff, 0}},
	} {
		in := []byte(before + c.request)
		for at := len(before); at < len(in); at++ {
			got := scan(cut(in, at))
			if last := got.events[len(got.events)-1]; len(got.events) != 10001 || last != c.want {
				t.Fatalf("%q cut at %d: %v; want %v", c.request, at-len(before), last, c.want)
			}
		}
	}
}

// What is announced allocates nothing.
func TestScannerAllocatesNothingForWhatIsOnlyAnnounced(t *testing.T) {
	for _, head := range []string{
		"*2147483647\r\n$1\r\nX\r\n", "*2\r\n$3\r\nGET\r\n$999999999999999999\r\n",
		"*2147483647\r\n$4\r\nKS.X\r\n$536870912\r\n", "*1\r\n$999999999999999999\r\n",
	} {
		p := []byte(head)
		var b Batch
		allocs := testing.AllocsPerRun(100, func() {
			s := Scanner{Intercept: isOurs}
			b.Clear()
			_, m, _ := s.Scan(p, &b)
			s.Rest(p[m:])
		})
		if allocs > 0 {
			t.Errorf("%q: %v allocations", head, allocs)
		}
	}
}

func TestParseRequestReturnsTheArguments(t *testing.T) {
	for in, want := range map[string][]string{
		resp("KS.LOCK", "a b", ""):            {"KS.LOCK", "a b", ""},
		"*1\rX$4\rXKS.XYY":                    {"KS.X"},
		"KS.LOCK 'a b' \"\\x41\"\r\n":         {"KS.LOCK", "a b", "A"},
		"*0\r\n":                              {},
		"":                                    nil,
		"*2\r\n$4\r\nKS.X\r\n":                nil,
		"*1\r\n$9\r\nKS.X\r\n":                nil,
		"*x\r\n":                              nil,
		"no line end":                         nil,
		"*2147483647\r\n$4\r\nKS.X\r\n":       nil,
		"*1\r\n$999999999999999999\r\nKS.X\r": nil,
	} {
		got := ParseRequest([]byte(in))
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q: %q; want %q", in, got, want)
		}
	}
}

func TestParseBegunTellsWhatIsThere(t *testing.T) {
	const request = "*4\r\n$2\r\nab\r\n$0\r\n\r\n$3\r\ncde\r\n$1\r\nf\r\n"
	ends := []int{len("*4\r\n$2\r\nab"), len("*4\r\n$2\r\nab\r\n$0\r\n"), len(request) - len("\r\n$1\r\nf\r\n"), len(request) - len("\r\n")}
	for n := len("*4\r\n"); n <= len(request); n++ {
		args := ParseBegun([]byte(request[:n]), 4)
		if len(args) != 4 {
			t.Fatalf("%q has %d arguments", request[:n], len(args))
		}
		for i, arg := range args {
			if there := n >= ends[i]; (arg != nil) != there || there && string(arg) != []string{"ab", "", "cde", "f"}[i] {
				t.Errorf("argument %d of %q is %q", i, request[:n], arg)
			}
		}
	}
	if args := ParseBegun([]byte("*4\r"), 4); args != nil {
		t.Errorf("without a length: %q", args)
	}
	if args := ParseBegun([]byte(request), 3); args != nil {
		t.Errorf("more than wanted: %q", args)
	}
}
