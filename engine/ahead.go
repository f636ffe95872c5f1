package engine

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// ahead knows which unlocks, and ends of promises, clients have sent behind their call that waits. On one connection
// they are not reached before it ends, so a call must not wait for one of them.
type ahead struct {
	some atomic.Int64 // sessions in of

	mu sync.Mutex
	of map[Session]*unlocks
}

type unlocks struct {
	w    *waiter // nil before the call waits
	sent []unlock
}

// unlock is a KS.UNLOCK, or what else gives back what the token has; an empty token stands for the last that was
// granted to the session.
type unlock struct{ name, token string }

// aheadMost bounds the unlocks that are kept of a session; 64 KB of input hold no more than some thousands.
const aheadMost = 4096

func newAhead() *ahead { return &ahead{of: map[Session]*unlocks{}} }

func (a *ahead) session(s Session) *unlocks {
	u := a.of[s]
	if u == nil {
		u = &unlocks{}
		a.of[s] = u
		a.some.Add(1)
	}
	return u
}

// waits says which waiter is to be rung for unlocks that follow.
func (a *ahead) waits(s Session, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session(s).w = w
}

// tokens of the unlocks of a name.
func (a *ahead) tokens(s Session, name string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.of[s]
	if u == nil {
		return nil
	}
	var tokens []string
	for _, sent := range u.sent {
		if sent.name == name {
			tokens = append(tokens, sent.token)
		}
	}
	return tokens
}

// UnlockAhead says that s has sent an unlock, or the end of a promise, behind the call that is running for it. It does
// not block. That it is said again changes nothing.
func (e *Engine) UnlockAhead(s Session, name, token string) {
	e.ahead.mu.Lock()
	defer e.ahead.mu.Unlock()
	u := e.ahead.session(s)
	sent := unlock{name, token}
	if n := len(u.sent); n < aheadMost && (n == 0 || u.sent[n-1] != sent) {
		u.sent = append(u.sent, sent)
	}
	if u.w != nil {
		u.w.ring()
	}
}

// ForgetAhead says that the call of s is over: what was sent behind it will be reached.
func (e *Engine) ForgetAhead(s Session) {
	if e.ahead.some.Load() == 0 {
		return
	}
	e.ahead.mu.Lock()
	defer e.ahead.mu.Unlock()
	if _, ok := e.ahead.of[s]; ok {
		delete(e.ahead.of, s)
		e.ahead.some.Add(-1)
	}
}

// unlocksBehind reports whether the lock that c waits for is held by a token whose unlock was sent behind c.
// The holder is asked for on the caller's session.
func (e *Engine) unlocksBehind(ctx context.Context, c *call) (bool, error) {
	tokens := e.ahead.tokens(c.s, c.name)
	if tokens == nil {
		return false, nil
	}
	owner, held, err := get(ctx, c.s, c.keys[0])
	if err != nil || !held || owner == c.req.Token { // which it has been granted meanwhile
		return false, err
	}
	last, _ := e.holds.lastToken(c.s, c.line)
	return slices.Contains(tokens, owner) || last == owner && slices.Contains(tokens, ""), nil
}
