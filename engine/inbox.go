package engine

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// inboxPrefix and the instance make the channel on which other proxies' scripts ring our waiters.
const inboxPrefix = "ks/inbox:"

// ringSpread is the time over which all waiters ask again after a reconnection.
const ringSpread = 200 * time.Millisecond

// bell is a message on the inbox. kind tells which:
//
//	r <db> <seq> <length of token> <token><name>              waiter seq should ask again
//	d <db> <seq> <length of token> <token><name>              the hold of attempt seq may have been ended by its token, or revoked
//	v <db> <length of name> <fence, 0> <name><value>          name was resolved; its memo waiters are out of the
//	                                                          line. With a value, which is for those who waited for the
//	                                                          promise with that fence
//	w <db> <length of name> 0 <name>                          the hold that KS.WAIT callers of name wait for ended
//	e <db> <length of name> <fence> <name><message>           the promise with that fence was rejected; likewise
type bell struct {
	line
	kind string

	seq   uint64 // of r and d
	token string

	value    string // of a v whose value may be gone soon; message of an e
	hasValue bool
	fence    int64 // of an e, and of a v with a value
}

var errBell = errors.New("not a bell")

func parseBell(payload string) (bell, error) {
	kind, rest, _ := strings.Cut(payload, " ")
	db, rest, _ := strings.Cut(rest, " ")
	second, rest, _ := strings.Cut(rest, " ")
	third, rest, ok := strings.Cut(rest, " ")
	n, err := strconv.Atoi(db)
	if !ok || err != nil {
		return bell{}, errBell
	}
	b := bell{line: line{db: n}, kind: kind}
	switch kind {
	case "r", "d":
		b.seq, err = strconv.ParseUint(second, 10, 64)
		if err != nil {
			return bell{}, errBell
		}
		b.token, b.name, ok = splitAt(rest, third)
	case "v", "w":
		b.fence, err = strconv.ParseInt(third, 10, 64)
		if err != nil {
			return bell{}, errBell
		}
		b.hasValue = b.fence > 0
		b.name, b.value, ok = splitAt(rest, second)
	case "e":
		b.fence, err = strconv.ParseInt(third, 10, 64)
		if err != nil {
			return bell{}, errBell
		}
		b.name, b.value, ok = splitAt(rest, second)
	default:
		ok = false
	}
	if !ok {
		return bell{}, errBell
	}
	return b, nil
}

// splitAt cuts s after as many bytes as the decimal number length says.
func splitAt(s, length string) (head, tail string, ok bool) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(s) {
		return "", "", false
	}
	return s[:n], s[n:], true
}

func (e *Engine) inboxUp(*redis.PubSub) {
	e.ready.up()
	e.moved.up()
	e.agreement.lookAgain() // it may be another Redis by now
	e.holds.doubtAll()
	e.waiters.ringAll(ringSpread)
}

func (e *Engine) inboxDown(err error) { e.ready.down(err) }

func (e *Engine) inboxMessage(_, payload string, _ bool) {
	b, err := parseBell(payload)
	if err != nil {
		e.log.Debug("odd message on own inbox", "length", len(payload))
		return
	}
	switch b.kind {
	case "v":
		e.resolved(b)
	case "e":
		e.rejected(b.line, b.fence, b.value)
	case "d":
		e.holds.doubt(b.seq)
	case "w":
		e.waiters.ringObservers(b.line)
	default:
		e.rung(b)
	}
}

// rung rings a waiter. One that is not there was rung for a call that is over: its place, or what was
// handed to it, goes. What it claimed stays: the bell may be older than the claim.
func (e *Engine) rung(b bell) {
	if !e.waiters.ring(b.seq) {
		e.leaver.add(b.line, departure{token: b.token, seq: b.seq, keepHeld: true})
	}
}
