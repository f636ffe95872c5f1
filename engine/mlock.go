package engine

import (
	"context"
	"errors"
	"slices"
	"time"
)

// MultiGrant are several locks with one token; Fences are in the order of the names.
type MultiGrant struct {
	Token  string
	Fences []int64
}

// errRepeat: a lock was lost before all were there.
var errRepeat = errors.New("a lock was lost meanwhile")

// MLock takes all locks of names, which differ, or none; r.Name is not used. It stands in one line at a time, in
// byte order of the names, so callers of MLock never wait for each other in a circle. What it has is
// renewed, as if it were held with Session, until all are there; then all leases begin in one step. Errors
// as for Lock.
func (e *Engine) MLock(ctx context.Context, s Session, names []string, r Request) (MultiGrant, error) {
	m := &mlock{e: e, s: s, names: slices.Sorted(slices.Values(names)), req: r, own: r.Token != ""}
	if !m.own {
		m.req.Token = newToken()
	}
	if r.Wait > 0 {
		m.deadline = time.Now().Add(millis(r.Wait))
	}
	for _, name := range m.names {
		if _, err := keysOf(name, e.cfg.TagSplit); err != nil {
			return MultiGrant{}, err
		}
	}
	defer e.ForgetAhead(s)
	fences, err := m.round(ctx)
	for errors.Is(err, errRepeat) {
		if ctx.Err() != nil {
			return MultiGrant{}, context.Cause(ctx)
		}
		m.repeats = true
		fences, err = m.round(ctx)
	}
	if err != nil {
		return MultiGrant{}, err
	}
	g := MultiGrant{Token: m.req.Token, Fences: make([]int64, len(names))}
	for i, name := range names {
		at, _ := slices.BinarySearch(m.names, name)
		g.Fences[i] = fences[at]
	}
	return g, nil
}

// mlock is a call of MLock.
type mlock struct {
	e        *Engine
	s        Session
	names    []string // in byte order
	req      Request
	own      bool // the token is the caller's
	deadline time.Time

	held    []*call
	waited  bool
	repeats bool // not the first round
}

// round takes one lock after the other, and confirms them all. On an error it has let go of all.
func (m *mlock) round(ctx context.Context) ([]int64, error) {
	m.held = nil
	for _, name := range m.names {
		if err := m.take(ctx, name); err != nil {
			m.release()
			return nil, err
		}
	}
	fences, err := m.confirm(ctx)
	if err == nil && m.waited && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errRepeat) {
		m.clear(ctx)
	} else if err != nil {
		m.release()
	}
	return fences, err
}

// take waits for the next lock, as long as there is time.
func (m *mlock) take(ctx context.Context, name string) error {
	k, _, err := m.e.prepare(ctx, m.s, name)
	if err != nil {
		return err
	}
	r := m.req
	r.Name, r.Session = name, true // renewed until all are there
	if !m.deadline.IsZero() {
		r.Wait = max((time.Until(m.deadline) + time.Millisecond - 1).Milliseconds(), 1) // not a moment less than was asked for
	}
	c, err := m.e.newCall(ctx, m.s, false, k, r)
	if err != nil {
		return err
	}
	c.keep, c.quiet, c.repeats = m.own, true, m.repeats
	_, err = m.e.obtain(ctx, c)
	m.waited = m.waited || c.asks > 1 || c.handed
	if err == nil {
		m.held = append(m.held, c)
	}
	return err
}

// confirm begins the leases, all at once. What was renewed so far is a lease from then on, unless the caller
// wants it held as long as its connection.
func (m *mlock) confirm(ctx context.Context) ([]int64, error) {
	lease, mode := m.req.Lease, "l"
	if lease == 0 || m.req.Session {
		lease = m.e.LockTTL()
	}
	lease = m.e.bounded(lease)
	if m.req.Session {
		mode = "s"
	}
	var keyNames []string
	pairs := make([]any, 0, 2*len(m.held))
	for _, c := range m.held {
		keyNames = append(keyNames, c.keys...)
		pairs = append(pairs, int64(c.seq), c.name)
		if !m.req.Session {
			m.e.holds.leased(c, time.Now().Add(longMillis(lease)))
		}
	}
	first := m.held[0]
	args := append(slices.Clone(first.args), m.req.Token, lease, mode+first.own[1:])
	reply, err := confirmScript.run(ctx, m.s, keyNames, append(args, pairs...))
	if err != nil {
		return nil, err
	}
	f := fieldsOf(reply)
	if f.number() != 1 {
		return nil, errors.Join(f.err, errRepeat)
	}
	fences := make([]int64, len(m.held))
	for i, c := range m.held {
		m.e.ringLocal(c.line, f.rings())
		fences[i] = f.number()
		m.e.holds.loud(c)
	}
	return fences, f.err
}

// release lets go of all that is held, and waits a while for that to be done.
func (m *mlock) release() {
	m.e.awaitAll(m.letGo())
}

func (m *mlock) letGo() (gone []<-chan struct{}) {
	for _, c := range m.held {
		m.e.holds.gone(c.seq)
		gone = append(gone, m.e.depart(c))
	}
	return gone
}

// clear lets go of all that is held before another round. A later call with the same token may have taken some
// of it over, which then is that one's: this one must not take it back, since the caller has turned to the later. So
// the asks of another round take nothing over, and must not meet anything that this round has left behind.
func (m *mlock) clear(ctx context.Context) {
	if !m.deadline.IsZero() {
		var done context.CancelFunc
		ctx, done = context.WithDeadline(ctx, m.deadline)
		defer done()
	}
	for _, c := range m.held {
		c.keep = false
	}
	for _, gone := range m.letGo() {
		select {
		case <-gone:
		case <-ctx.Done():
		case <-m.e.run.Done():
		}
	}
}
