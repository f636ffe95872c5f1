package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Memo is the answer to a memo caller: the value, or, with Token, the promise to make it.
type Memo struct {
	Value  string
	Token  string  // empty: Value is the value, be it empty
	Stale  bool    // the TTL of Value has ended, and another is making the next
	Shared *Shared // nil unless others, who waited as well, are answered with the same
}

// Shared is one reply for many callers. Without it a large value would be in memory once for each of them.
type Shared struct {
	once  sync.Once
	reply []byte
}

// Reply is what encode makes of the value when it is first asked for. Nobody may change it.
func (s *Shared) Reply(encode func() []byte) []byte {
	s.once.Do(func() { s.reply = encode() })
	return s.reply
}

// largest and shortest bounds of what RESOLVE sends beside storing the value.
const (
	// notifMost is the largest value, in bytes, that goes out on the notif channel: Redis copies it
	// for every subscriber and cuts off those that lag 32 MB behind. Larger ones are found by asking.
	notifMost = 1 << 20

	// A value that lives no longer than briefTTL ms and has at most briefMost bytes is also carried
	// by the bells, because it may be gone before a proxy looks.
	briefTTL  = 1000
	briefMost = 64 << 10
)

// Memo returns the value of r.Name if there is one; else the promise to make it, if nobody has it; else
// it waits for either. Errors as for Lock, and RejectedError.
func (e *Engine) Memo(ctx context.Context, s Session, r Request) (Memo, error) {
	k, _, err := e.locate(s, r.Name) // a hit costs one GET, which Redis itself refuses
	if err != nil {
		return Memo{}, err
	}
	value, hit, err := get(ctx, s, k.value)
	if hit || err != nil {
		return Memo{Value: value}, err
	}
	c, err := e.newCall(ctx, s, true, k, r)
	if err != nil {
		return Memo{}, err
	}
	defer e.ForgetAhead(s)
	a, err := e.obtainMemo(ctx, c)
	if err != nil {
		return Memo{}, err
	}
	if a.verdict == valued || a.verdict == staled {
		return Memo{Value: a.value, Stale: a.verdict == staled, Shared: a.shared}, nil
	}
	return Memo{Token: c.req.Token}, nil
}

// MayRead reports whether Memo would begin with a GET of name, which is the key of its value.
func (e *Engine) MayRead(name string) bool {
	return validName(name, e.cfg.TagSplit) && e.ready.check() == nil && e.agreement.check() == nil
}

// get is the hit path: one GET with the caller's own rights.
func get(ctx context.Context, s Session, key string) (value string, hit bool, err error) {
	reply, err := s.Do(ctx, "GET", key)
	if err != nil || reply == nil {
		return "", false, err
	}
	value, ok := reply.(string)
	if !ok {
		return "", false, fmt.Errorf("get memo: redis replied %T", reply)
	}
	return value, true, nil
}

func (e *Engine) obtainMemo(ctx context.Context, c *call) (answer, error) {
	if c.req.NoWait {
		return e.askOnce(ctx, c)
	}
	w := e.waiters.add(c.line, c.req.Token, true)
	if w == nil {
		return e.askOrRefuse(ctx, c)
	}
	e.follow(c, true)
	defer func() {
		e.waiters.remove(w)
		e.follow(c, true)
	}()
	return e.await(ctx, c, w)
}

// Resolution is the value that a promise is kept with.
type Resolution struct {
	Name, Token, Value string
	TTL                int64 // of the value, in ms; 0: none
	Stale              int64 // ms for which it is served after its TTL, while another makes the next; 0: not at all
}

// Resolve stores the value and tells everyone who waits for it, if the token still holds the promise;
// false, and nothing is stored, if not. Errors as for Lock.
func (e *Engine) Resolve(ctx context.Context, s Session, r Resolution) (bool, error) {
	k, at, err := e.prepare(ctx, s, r.Name)
	if err != nil {
		return false, err
	}
	ttl := ""
	if r.TTL > 0 {
		ttl = fmt.Sprint(r.TTL)
	}
	stale := ""
	if r.Stale > 0 && r.TTL > 0 {
		stale = fmt.Sprint(r.Stale)
	}
	args := append(e.common(at, k), r.Token, r.Value, ttl, k.notif, notifMost, briefTTL, briefMost, stale)
	began := time.Now()
	before := e.waiters.memoCallers(at)
	undo := e.ending(s, at, r.Token)
	reply, err := resolveScript.run(ctx, s, k.ofMemo(), args)
	if err != nil {
		undo()
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	stored := f.number() == 1
	e.ringLocal(at, f.rings())
	if f.number() == 1 {
		e.resolvedHere(at, before, r.Value)
	}
	if !stored {
		undo()
	} else if stale != "" {
		e.copies.watch(at, time.Until(began.Add(beforeItEnds(r.TTL))))
	}
	return stored, f.err
}

// rejectOnce is how long, in ms, a rejection without a TTL is kept for those who were waiting and have not
// heard of it yet.
const rejectOnce = 10_000

// Rejection says that there will be no value.
type Rejection struct {
	Name, Token, Message string
	TTL                  int64 // ms for which the message answers everyone; 0: only those who wait now
}

// Reject tells everyone who waits for the value that there will be none, if the token still holds the
// promise; false if not. Errors as for Lock.
func (e *Engine) Reject(ctx context.Context, s Session, r Rejection) (bool, error) {
	k, at, err := e.prepare(ctx, s, r.Name)
	if err != nil {
		return false, err
	}
	ttl := ""
	if r.TTL > 0 {
		ttl = fmt.Sprint(r.TTL)
	}
	undo := e.ending(s, at, r.Token)
	reply, err := rejectScript.run(ctx, s, k.ofMemo(), append(e.common(at, k), r.Token, r.Message, ttl, rejectOnce))
	if err != nil {
		undo()
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	done := f.number() == 1
	e.ringLocal(at, f.rings())
	mine, fence := f.number() == 1, f.number()
	if mine {
		e.rejected(at, fence, r.Message)
	}
	if !done {
		undo()
	}
	return done, f.err
}
