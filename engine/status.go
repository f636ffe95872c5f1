package engine

import "context"

// Status is what is known of a name at a moment.
type Status struct {
	Held    bool
	TTL     int64  // ms the hold lasts; -1: no TTL, -2: not held
	Owner   string // address and name of the client that holds it; empty if not known
	Fence   int64  // of the last grant; 0: none, or forgotten a day after the lease
	Waiters int64
	Value   bool // a memo value is cached
	Failed  bool // a rejection is memoized
}

// Status looks at a name. Errors as for Lock.
func (e *Engine) Status(ctx context.Context, s Session, name string) (Status, error) {
	k, at, err := e.prepare(ctx, s, name)
	if err != nil {
		return Status{}, err
	}
	reply, err := statusScript.run(ctx, s, k.ofMemo(), e.common(at, k))
	if err != nil {
		return Status{}, err
	}
	f := fieldsOf(reply)
	st := Status{Held: f.number() == 1, TTL: f.number(), Owner: f.text(), Fence: f.number(), Waiters: f.number()}
	st.Value, st.Failed = f.number() == 1, f.number() == 1
	return st, f.err
}
