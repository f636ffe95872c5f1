package engine

import "context"

// Forget removes the value of name and a memoized rejection, and takes a promise from who is making the value now: his
// Resolve answers false, his token goes out on the locklost channel, and the next in line is asked to generate. False
// if there was nothing of it. A lock that Lock took stands. Errors as for Lock.
func (e *Engine) Forget(ctx context.Context, s Session, name string) (bool, error) {
	k, at, err := e.prepare(ctx, s, name)
	if err != nil {
		return false, err
	}
	reply, err := forgetScript.run(ctx, s, k.ofMemo(), append(e.common(at, k), k.locklost))
	if err != nil {
		e.ringIfLost(at, err)
		return false, err
	}
	f := fieldsOf(reply)
	something := f.number() == 1
	e.ringLocal(at, f.rings())
	if seq := f.number(); seq > 0 {
		e.holds.revoked(uint64(seq))
	}
	return something, f.err
}
