package passthrough

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
)

// Error is an error that Redis replied, without the leading '-'.
type Error string

func (e Error) Error() string { return string(e) }

// errReply means that bytes are no complete reply.
var errReply = errors.New("malformed reply")

// AppendCommand appends a request in RESP to dst. Arguments are string, []byte,
// int or int64; it panics on others.
func AppendCommand(dst []byte, args ...any) []byte {
	dst = appendHeader(dst, '*', len(args))
	for _, arg := range args {
		var digits [20]byte
		switch v := arg.(type) {
		case string:
			dst = append(appendHeader(dst, '$', len(v)), v...)
		case []byte:
			dst = append(appendHeader(dst, '$', len(v)), v...)
		case int:
			n := strconv.AppendInt(digits[:0], int64(v), 10)
			dst = append(appendHeader(dst, '$', len(n)), n...)
		case int64:
			n := strconv.AppendInt(digits[:0], v, 10)
			dst = append(appendHeader(dst, '$', len(n)), n...)
		default:
			panic(fmt.Sprintf("argument of type %T", arg))
		}
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// AppendGet appends a GET of key to dst, as AppendCommand does.
func AppendGet(dst, key []byte) []byte {
	dst = appendHeader(append(dst, "*2\r\n$3\r\nGET\r\n"...), '$', len(key))
	return append(append(dst, key...), '\r', '\n')
}

func appendHeader(dst []byte, sigil byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, sigil), int64(n), 10)
	return append(dst, '\r', '\n')
}

// ParseReply parses one complete reply, in RESP2 or RESP3, into nil, string,
// int64, float64, bool, *big.Int, Error or []any (a map becomes the list of its
// keys and values). Attributes are dropped.
func ParseReply(p []byte) (any, error) {
	v, rest, err := parseValue(p)
	if err == nil && len(rest) > 0 {
		return nil, errReply
	}
	return v, err
}

func parseValue(p []byte) (v any, rest []byte, err error) {
	line, rest, ok := cutLine(p)
	if !ok || len(line) == 0 {
		return nil, nil, errReply
	}
	text := string(line[1:])
	switch line[0] {
	case '+':
		return text, rest, nil
	case '-':
		return Error(text), rest, nil
	case ':':
		v, err = strconv.ParseInt(text, 10, 64)
	case ',':
		v, err = strconv.ParseFloat(text, 64)
	case '#':
		v = text == "t"
	case '_':
	case '(':
		if v, ok = new(big.Int).SetString(text, 10); !ok {
			err = errReply
		}
	default:
		return parseLong(line[0], text, rest)
	}
	if err != nil {
		return nil, nil, errReply
	}
	return v, rest, nil
}

// parseLong parses what is announced by a length.
func parseLong(typ byte, text string, p []byte) (v any, rest []byte, err error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, nil, errReply
	}
	if n < 0 {
		return nil, p, nil
	}
	switch typ {
	case '$', '=', '!':
		if len(p)-2 < n {
			return nil, nil, errReply
		}
		s, rest := string(p[:n]), p[n+2:]
		switch {
		case typ == '!':
			return Error(s), rest, nil
		case typ == '=' && len(s) >= 4:
			return s[4:], rest, nil // without "txt:"
		}
		return s, rest, nil
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return nil, nil, errReply
	}
	list := []any{}
	for range n {
		if v, p, err = parseValue(p); err != nil {
			return nil, nil, err
		}
		list = append(list, v)
	}
	if typ == '|' {
		return parseValue(p)
	}
	return list, p, nil
}

func cutLine(p []byte) (line, rest []byte, ok bool) {
	for i := 0; i+1 < len(p); i++ {
		if p[i] == '\r' && p[i+1] == '\n' {
			return p[:i], p[i+2:], true
		}
	}
	return nil, nil, false
}

// cutReplies cuts p into the replies it consists of, in RESP2 or RESP3.
func cutReplies(p []byte, expected int) ([][]byte, error) {
	var f frames
	replies := make([][]byte, 0, expected)
	for len(p) > 0 {
		f.begin(false, false)
		n, end, ok := f.next(p)
		if !ok || !end {
			return nil, errReply
		}
		replies = append(replies, p[:n:n])
		p = p[n:]
	}
	return replies, nil
}

// call is the sink of the commands that the proxy itself sends on a lane.
type call struct {
	replies []byte
	owed    int64         // how many are still to come
	done    chan struct{} // closed when none is
}

func newCall(commands int64) *call { return &call{owed: commands, done: make(chan struct{})} }

func (c *call) Reply(p []byte, answered int64, _ bool) {
	c.replies = append(c.replies, p...)
	if c.owed -= answered; answered > 0 && c.owed == 0 {
		close(c.done)
	}
}

// Do sends one command on the lane and waits for its reply, which is returned
// as ParseReply does; an error reply as an Error. With ErrBroken, which is also
// for a lane that is or becomes a pipe, the command may have run or not.
func (l *Lane) Do(args ...any) (any, error) {
	c := newCall(1)
	var b Batch
	b.AddPlain()
	if err := l.call(c, AppendCommand(nil, args...), &b); err != nil {
		return nil, err
	}
	v, err := ParseReply(c.replies)
	if e, ok := v.(Error); ok {
		return nil, e
	}
	return v, err
}

// Exchange sends the n commands that stand in p (AppendCommand) in one write and
// returns their replies as Redis sent them, one for each, errors included; they and
// p are the caller's. Commands may change the connection as those of a client do,
// but each must have exactly one reply. With ErrBroken any of them may have run or
// not. On a lane with several senders theirs may come in between.
func (l *Lane) Exchange(p []byte, n int) ([][]byte, error) {
	var s Scanner
	var b Batch
	s.Scan(p, &b)
	c := newCall(b.Requests())
	c.replies = make([]byte, 0, 64*n)
	if err := l.call(c, p, &b); err != nil {
		return nil, err
	}
	replies, err := cutReplies(c.replies, n)
	if err == nil && len(replies) != n {
		err = errReply
	}
	return replies, err
}

// SwitchReplies sends CLIENT REPLY ON, and waits for its reply, or OFF, which
// has none. The lane's owner must have no request in flight. Where it has
// replies off they stay so as far as PushesRESP3 is concerned.
func (l *Lane) SwitchReplies(on bool) error {
	c := newCall(1)
	var b Batch
	if !on {
		defer l.hush(false)
		b.add(ReplyOff, 0)
		return l.Send(c, AppendCommand(nil, "CLIENT", "REPLY", "OFF"), &b)
	}
	l.hush(true)
	b.add(ReplyOn, 0)
	return l.call(c, AppendCommand(nil, "CLIENT", "REPLY", "ON"), &b)
}

// hush notes that replies will be on though the owner has them off, or that this
// is over.
func (l *Lane) hush(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hushed = on && l.state.Off
}

// call sends p, the requests of b, and waits until c has their replies.
func (l *Lane) call(c *call, p []byte, b *Batch) error {
	if l.Opaque() || l.Send(c, p, b) != nil {
		return ErrBroken
	}
	select {
	case <-c.done:
		return nil
	case <-l.piped:
	case <-l.done:
	}
	select {
	case <-c.done:
		return nil
	default:
		return ErrBroken
	}
}

// Learn replaces what the lane knows of the selected database and protocol by
// what CLIENT INFO said of them, after they may have changed unseen.
func (l *Lane) Learn(db, resp int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.DB, l.state.RESP, l.state.Unsure = db, resp, false
}
