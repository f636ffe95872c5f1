package passthrough

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

const (
	// maxNumberLine bounds the bytes of "*<n>\r\n" that are held back while its
	// end is missing: 20 digits and some.
	maxNumberLine = 32
	// maxName is the longest command name that is held back until complete.
	maxName = 64
	// maxInline is Redis's PROTO_INLINE_MAX_SIZE. Redis refuses longer lines
	// only if they arrive in pieces; so a longer line is simply not held back.
	maxInline = 64 << 10
)

// A Verdict says why a Scanner stopped.
type Verdict uint8

const (
	// More: all complete requests were scanned; what follows needs more input.
	More Verdict = iota
	// Intercepted: the next request is one of the caller's own.
	Intercepted
	// Odd: the next bytes are no well-formed request. Redis answers them in
	// its own words, or waits; the connection must become a pipe.
	Odd
)

// A Scanner finds the requests in what a client sends, exactly where Redis finds
// them (processInlineBuffer and processMultibulkBuffer of networking.c): strict
// in numbers, lax in line ends. It keeps no bytes; what Scan did not consume must
// be offered again with more behind it.
type Scanner struct {
	// Intercept reports whether requests named name (any case, valid during
	// the call) are the caller's own. It may be nil. It is not asked about what
	// follows a QUIT.
	Intercept func(name []byte) bool

	args int64 // bulk strings of the current request still to come
	skip int64 // bytes of the current bulk string still to come, with its line end
	line bool  // within an inline request that is too long to be held back
}

// status of a look at a piece of a request.
type status uint8

const (
	complete status = iota
	short           // more bytes are needed to tell
	odd             // Redis would not understand it
)

// Scan looks at p, which begins where the last call stopped consuming, and adds
// the requests it finds to b. The first n bytes of p may be passed on. With
// verdict Intercepted, a request of the caller's own stands at p[n:m] as far as
// it was scanned; Rest finds its end. With Odd everything may be passed on.
func (s *Scanner) Scan(p []byte, b *Batch) (n, m int, v Verdict) {
	i := 0
	for {
		var st status
		if i, st = s.rest(p, i); st != complete {
			return i, i, verdictOf(st)
		}
		if i == len(p) {
			return i, i, More
		}
		var name []byte
		start := i
		if p[i] == '*' {
			name, i, st = s.multibulk(p, i, b)
		} else {
			name, i, st = s.inline(p, i, b)
		}
		if st != complete {
			return start, start, verdictOf(st)
		}
		if name != nil {
			return start, i, Intercepted
		}
	}
}

// Rest goes on within an intercepted request: the first n bytes of p belong to
// it, and done tells that they are its last.
func (s *Scanner) Rest(p []byte) (n int, done bool, v Verdict) {
	n, st := s.rest(p, 0)
	return n, st == complete, verdictOf(st)
}

// Within reports whether the scanner stands in the middle of a request.
func (s *Scanner) Within() bool { return s.args > 0 || s.skip > 0 || s.line }

func verdictOf(st status) Verdict {
	if st == odd {
		return Odd
	}
	return More
}

// rest consumes what is left of the current request, from p[i] on.
func (s *Scanner) rest(p []byte, i int) (int, status) {
	for {
		if s.skip > 0 {
			k := min(int64(len(p)-i), s.skip)
			i += int(k)
			if s.skip -= k; s.skip > 0 {
				return i, short
			}
		}
		if s.line {
			return s.restOfLine(p, i)
		}
		if s.args == 0 {
			return i, complete
		}
		if i == len(p) {
			return i, short
		}
		size, next, st := bulkHeader(p, i)
		if st != complete {
			return i, st
		}
		i = next
		s.args--
		s.skip = size + 2
	}
}

func (s *Scanner) restOfLine(p []byte, i int) (int, status) {
	end, st := lineEnd(p[i:])
	if st != complete {
		return len(p), st
	}
	s.line = false
	return i + end + 1, complete
}

// multibulk looks at a request in RESP at p[i]. It returns the name if the
// request is to be intercepted, and where it stopped.
func (s *Scanner) multibulk(p []byte, i int, b *Batch) ([]byte, int, status) {
	argc, i, st := number(p, i)
	if st != complete {
		return nil, i, st
	}
	if argc > math.MaxInt32 {
		return nil, i, odd
	}
	if argc <= 0 {
		b.addEmpty()
		return nil, i, complete
	}
	size, i, st := bulkHeader(p, i)
	if st != complete {
		return nil, i, st
	}
	if size > maxName {
		b.AddPlain()
		s.args, s.skip = argc-1, size+2
		return nil, i, complete
	}
	if int64(len(p)-i) < size {
		return nil, i, short
	}
	name := p[i : i+int(size)]
	if s.intercepts(name, b) {
		s.args, s.skip = argc-1, 2
		return name, i + int(size), complete
	}
	e := lookup(name)
	if e != Plain {
		if st := special(e, argc, p, i+int(size)+2, b); st != complete {
			return nil, i, st
		}
	} else {
		b.AddPlain()
	}
	s.args, s.skip = argc-1, 2
	return nil, i + int(size), complete
}

// special adds a command of the table to b. Its arguments begin at p[i].
func special(e Effect, argc int64, p []byte, i int, b *Batch) status {
	var args [2][]byte
	if want := argc - 1; (e == Select && want == 1) || (e == client && want >= 1) {
		for k := range min(want, 2) {
			size, next, st := peekBulk(p, i)
			if st == short {
				return short // of a few bytes: peekBulk takes no long strings
			}
			if st != complete {
				break // too long to mean anything, or odd: that shows when it is scanned
			}
			args[k] = p[next : next+size]
			i = next + size + 2
		}
	}
	b.addCommand(e, argc, args)
	return complete
}

// addCommand adds a command of the table with its first arguments.
func (b *Batch) addCommand(e Effect, argc int64, args [2][]byte) {
	switch {
	case e == blocking:
		b.AddPlain()
		b.blocking, b.restless = true, true
	case e == Select:
		db, ok := parseInt(args[0])
		if !ok || argc != 2 || db < 0 || db > math.MaxInt32 {
			b.AddPlain()
			return
		}
		b.add(Select, db)
	case e == client:
		b.add(replyMode(argc, args), 0)
		b.restless = b.restless || !harmless(args[0])
		b.renames = b.renames || bytes.EqualFold(args[0], []byte("setname"))
	case e.subscription():
		if argc == 1 && !e.unsubscription() {
			b.AddPlain() // an arity error
			return
		}
		b.add(e, argc-1)
	case e == Reset && argc != 1:
		b.AddPlain()
	default:
		b.add(e, 0)
	}
}

// harmless reports whether a subcommand of CLIENT that clients use to introduce
// themselves is all it is. TRACKING is the one that is not.
func harmless(subcommand []byte) bool {
	for _, name := range [...]string{"setinfo", "setname", "id", "maint_notifications"} {
		if strings.EqualFold(name, string(subcommand)) {
			return true
		}
	}
	return false
}

// replyMode tells CLIENT REPLY ON, OFF and SKIP from CLIENT's other forms.
func replyMode(argc int64, args [2][]byte) Effect {
	if argc != 3 || !bytes.EqualFold(args[0], []byte("reply")) {
		return Plain
	}
	switch {
	case bytes.EqualFold(args[1], []byte("on")):
		return ReplyOn
	case bytes.EqualFold(args[1], []byte("off")):
		return ReplyOff
	case bytes.EqualFold(args[1], []byte("skip")):
		return ReplySkip
	}
	return Plain
}

// inline looks at an inline request at p[i], as multibulk does.
func (s *Scanner) inline(p []byte, i int, b *Batch) ([]byte, int, status) {
	end, st := lineEnd(p[i:])
	if st == odd {
		return nil, i, odd
	}
	if st == short {
		return s.longInline(p, i, b)
	}
	args, ok := SplitWords(p[i : i+end])
	if !ok {
		return nil, i, odd
	}
	next := i + end + 1
	if len(args) == 0 {
		b.addEmpty()
		return nil, next, complete
	}
	if s.intercepts(args[0], b) {
		return args[0], next, complete
	}
	e := lookup(args[0])
	if e == Plain {
		b.AddPlain()
		return nil, next, complete
	}
	var two [2][]byte
	copy(two[:], args[1:])
	b.addCommand(e, int64(len(args)), two)
	return nil, next, complete
}

// longInline deals with an inline request whose end has not arrived. Redis
// waits for it, so it can be held back; beyond maxInline it is passed on, if
// its name already says that it is a plain one.
func (s *Scanner) longInline(p []byte, i int, b *Batch) ([]byte, int, status) {
	if len(p)-i <= maxInline {
		return nil, i, short
	}
	name, _, _ := bytes.Cut(p[i:], []byte(" "))
	if len(name) == 0 || bytes.ContainsAny(name, "\"'\t\r\v\f") || lookup(name) != Plain || s.intercepts(name, b) {
		return nil, i, odd
	}
	b.AddPlain()
	s.line = true
	return nil, len(p), complete
}

func (s *Scanner) intercepts(name []byte, b *Batch) bool {
	return s.Intercept != nil && !b.quit && s.Intercept(name)
}

// lineEnd finds the '\n' that ends an inline request. Redis looks for it with
// strchr, so behind a NUL it is never found and the connection stalls.
func lineEnd(p []byte) (int, status) {
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		if bytes.IndexByte(p, 0) >= 0 {
			return 0, odd
		}
		return 0, short
	}
	if bytes.IndexByte(p[:end], 0) >= 0 {
		return 0, odd
	}
	return end, complete
}

// number reads a line like "*12\r\n" at p[i:]. As Redis does, it takes only
// numbers in canonical form and skips the byte behind '\r' unseen.
func number(p []byte, i int) (n int64, next int, st status) {
	j := i + 1
	negative := j < len(p) && p[j] == '-'
	if negative {
		j++
	}
	first := j
	for ; j < len(p); j++ {
		d := p[j] - '0'
		if d > 9 {
			break
		}
		n = n*10 - int64(d) // negative, as LLONG_MIN has no counterpart
	}
	digits := j - first
	if digits > 19 || n > 0 {
		return 0, i, odd // beyond 64 bits: wrapped around
	}
	if j == len(p) {
		return 0, i, short
	}
	if p[j] != '\r' || digits == 0 || (p[first] == '0' && (digits > 1 || negative)) {
		return 0, i, odd
	}
	if j+2 > len(p) {
		return 0, i, short
	}
	if !negative {
		n = -n
	}
	if !negative && n < 0 {
		return 0, i, odd // LLONG_MAX + 1
	}
	return n, j + 2, complete
}

// bulkHeader reads "$<n>\r\n" at p[i:].
func bulkHeader(p []byte, i int) (size int64, next int, st status) {
	if i >= len(p) {
		return 0, i, short
	}
	if p[i] != '$' {
		return 0, i, odd
	}
	size, next, st = number(p, i)
	if st == complete && (size < 0 || size > math.MaxInt64-2) {
		return 0, i, odd
	}
	return size, next, st
}

// peekBulk finds a bulk string of a few bytes at p[i:], at p[next:next+size].
func peekBulk(p []byte, i int) (size, next int, st status) {
	n, next, st := bulkHeader(p, i)
	if st != complete {
		return 0, i, st
	}
	if n > maxName {
		return 0, i, odd
	}
	if len(p) < next+int(n)+2 {
		return 0, i, short
	}
	return int(n), next, complete
}

// parseInt parses as Redis's string2ll: canonical decimal only.
func parseInt(p []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(p), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(p) {
		return 0, false
	}
	return n, true
}

// ParseRequest returns the arguments of one complete request, in RESP or
// inline, that a Scanner has found. The arguments of a request in RESP are
// slices of p.
func ParseRequest(p []byte) [][]byte { return ParseRequestInto(nil, p) }

// ParseRequestInto is ParseRequest that may use args for the arguments of a request in RESP, whatever is in it.
func ParseRequestInto(args [][]byte, p []byte) [][]byte {
	if len(p) == 0 {
		return nil
	}
	if p[0] != '*' {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			return nil
		}
		args, _ := SplitWords(p[:end])
		return args
	}
	args, argc := parseArgs(args, p, math.MaxInt)
	if len(args) < argc {
		return nil
	}
	return args
}

// ParseBegun is ParseRequest for a request in RESP of which the end may be still to come: then arguments that are not
// all there are nil. Of one with more than most arguments it is nil.
func ParseBegun(p []byte, most int) [][]byte {
	args, argc := parseArgs(nil, p, most)
	if argc > most {
		return nil
	}
	return append(args, make([][]byte, argc-len(args))...)
}

// parseArgs returns the arguments that are all there, in room if that is large enough, and how many there should be;
// none of more than most.
func parseArgs(room [][]byte, p []byte, most int) (args [][]byte, argc int) {
	n, i, st := number(p, 0)
	if st != complete {
		return nil, 0
	}
	if argc = int(n); argc > most {
		return nil, argc
	}
	if args = room[:0]; cap(args) == 0 {
		args = make([][]byte, 0, min(argc, 16))
	}
	for len(args) < argc {
		size, next, st := bulkHeader(p, i)
		if st != complete || int64(len(p)-next) < size {
			break
		}
		i = next + int(size)
		args = append(args, p[next:i:i])
		i += 2
	}
	return args, argc
}
