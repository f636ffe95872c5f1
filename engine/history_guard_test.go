package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// guardedKey is what guarded commands of histories write to.
const guardedKey = "guarded"

// guardSession is the session of a KS.GUARD caller: a connection of its own to Redis.
type guardSession struct {
	testSession
	conn   *harness.Conn
	before func(trip int) error // what happens before a round trip that decides
	trips  int
	unsent string // a command that does not reach Redis, and whose answer is made up
	lie    string
}

// guarded returns the connection on which guarded commands are played.
func (b *backend) guarded() *harness.Conn {
	if b.guards == nil {
		b.guards, b.raw = offline(b.t), harness.Dial(b.t, b.opt.Network, b.opt.Addr)
	}
	b.guards.ready.up() // what was found out long ago does not count
	b.guards.agreement.found("first")
	return b.raw
}

func (s *guardSession) Exchange(_ context.Context, commands ...[]any) ([][]byte, error) {
	if len(commands) > 1 { // else it only clears away what it has begun
		if err := s.before(s.trips); err != nil {
			return nil, err
		}
	}
	s.trips++
	return s.send(commands...)
}

func (s *guardSession) send(commands ...[]any) ([][]byte, error) {
	replies := make([][]byte, len(commands))
	for i, command := range commands {
		if command[0] == s.unsent {
			replies[i] = []byte(s.lie)
			continue
		}
		words := make([]string, len(command))
		for j, word := range command {
			words[j] = fmt.Sprintf("%s", word)
		}
		if _, err := s.conn.Write([]byte(harness.Command(words...))); err != nil {
			return nil, err
		}
		reply, err := s.conn.ReplyWithin(harness.Patience)
		if err != nil {
			return nil, err
		}
		replies[i] = []byte(reply)
	}
	return replies, nil
}

// meanwhile is what can happen between the look at the lock and the guarded command.
var meanwhile = []string{
	"unlock", "unlock", "expire", "expire", "renew", "renew", "extend", "extend", "again", "again", "lock", "resend",
	"leave", "end session", "resolve", "reject", "unclaimed", "look", "forget",
}

// guard is a guarded write, with other steps before each of its first round trips. It must take effect if its
// token holds the lock at its EXEC, and only then, and say so.
func (h *history) guard(o op) error {
	token := h.someToken(o)
	s := &guardSession{conn: h.st.b.guarded(), unsent: h.st.unsent}
	if s.lie = "+OK\r\n"; s.unsent == "GET" {
		s.lie = fmt.Sprintf("$%d\r\n%s\r\n", len(token), token)
	}
	held := false
	var broken error
	s.before = func(trip int) error {
		if trip > 0 && trip <= 3 && broken == nil {
			broken = h.between(o, trip)
		}
		held = token != "" && h.now.owner == token
		return broken
	}
	id := fmt.Sprintf("write%d.%d", h.tick, o.dice[0])
	reply, err := h.st.b.guards.Guard(context.Background(), s, h.st.name, token, [][]byte{[]byte("SET"), []byte(guardedKey), []byte(id)})
	if broken != nil {
		_, _ = s.send([]any{"EXEC"})
		return broken
	}
	written := h.st.b.do("GET", guardedKey) == id
	h.note("guarded write of %q, in %d round trips: %q, %v; written %v", token, s.trips, reply, err, written)
	var lost *LockLostError
	switch {
	case written != held:
		return fmt.Errorf("%q holds the lock: %v, and its write took effect: %v; %v", token, held, written, h.now)
	case written && (err != nil || string(reply) != "+OK\r\n"), !written && !errors.As(err, &lost):
		return fmt.Errorf("the write took effect: %v, and the answer is %q, %w", written, reply, err)
	}
	if pong, err := s.send([]any{"PING"}); err != nil || string(pong[0]) != "+PONG\r\n" {
		return fmt.Errorf("in the end the session answers %q, %w", pong, err)
	}
	h.counts[fmt.Sprintf("guarded %v in %d", written, min(s.trips, 4))]++
	return nil
}

// between plays one or two steps in the middle of another.
func (h *history) between(o op, trip int) error {
	for i := range o.pick(2, 3) {
		inner := op{what: meanwhile[o.pick(3, len(meanwhile)*(trip+i))%len(meanwhile)], dice: o.dice}
		for d := range inner.dice {
			inner.dice[d] = inner.dice[d]*2654435761 + uint32(trip+i)
		}
		if err := h.act(inner); err != nil {
			return fmt.Errorf("between, %s: %w", inner.what, err)
		}
	}
	return nil
}
