package proxy

import (
	"math"

	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

// A lookahead finds commands of ours in what a client sends behind the one that
// waits.
type lookahead struct {
	s     *session
	scan  passthrough.Scanner
	batch passthrough.Batch
	seen  int // bytes of the input read ahead that were looked at
	told  bool
	begun int // where a command of ours begins of which the end is still to come; -1: none

	toldOf int // how many of its arguments were told
}

func newLookahead(s *session) *lookahead {
	return &lookahead{s: s, scan: passthrough.Scanner{Intercept: s.srv.intercepts}, begun: -1}
}

// look is shown all that was read ahead. It stops at what may change the
// meaning of what follows: MULTI, SELECT and their like.
func (l *lookahead) look(p []byte) {
	for l.seen < len(p) {
		if l.begun < 0 && !l.find(p) {
			return
		}
		n, done, verdict := l.scan.Rest(p[l.seen:])
		l.seen += n
		if verdict == passthrough.Odd {
			l.seen = math.MaxInt
			return
		}
		if !done {
			l.tellBegun(p[l.begun:])
			return
		}
		l.tell(passthrough.ParseRequest(p[l.begun:l.seen]))
		l.begun, l.toldOf = -1, 0
	}
}

func (l *lookahead) tell(args [][]byte) {
	l.told = true
	l.s.srv.cfg.Handler.Ahead(l.s, args)
}

// tellBegun tells of a command of which the end is still to come: it may be longer than what is read ahead.
func (l *lookahead) tellBegun(p []byte) {
	const most = 64 // arguments
	args := passthrough.ParseBegun(p, most)
	there := 0
	for there < len(args) && args[there] != nil {
		there++
	}
	if there > l.toldOf {
		l.toldOf = there
		l.tell(args)
	}
}

// end says that what was told is over.
func (l *lookahead) end() {
	if l.told {
		l.s.srv.cfg.Handler.Ahead(l.s, nil)
	}
}

// find reports whether a command of ours begins in what was not looked at yet.
func (l *lookahead) find(p []byte) bool {
	l.batch.Clear()
	n, m, verdict := l.scan.Scan(p[l.seen:], &l.batch)
	if verdict == passthrough.Odd || l.batch.Special() {
		l.seen = math.MaxInt
		return false
	}
	if verdict == passthrough.Intercepted {
		l.begun = l.seen + n
		l.seen += m
		return true
	}
	l.seen += n
	return false
}
