package engine

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// line names one line of waiters: names live in the caller's database.
type line struct {
	db   int
	name string
}

// waiter is one call of this proxy that may have to wait. It is registered before its first ask, so
// that no bell can fall between.
type waiter struct {
	line
	seq    uint64
	token  string
	bell   chan struct{} // capacity one: rung means "ask again"; ringing never blocks
	value  chan served   // capacity one; of memo callers only
	rung   bool          // its last ask was because of the bell; its own goroutine's
	struck atomic.Bool   // from the line, since its last ask
	since  atomic.Int64  // the least fence of the promise it waits for; -1: not known yet

	// Of KS.LOCK callers that were told to wait, nil before; others use them under the mutex of waiters.
	direct chan grant     // capacity one: the lock was handed over with all of its lease
	first  chan time.Time // capacity one: first in line now, behind a lease that ends then
	call   *call
	stand  *list.Element // in waiters.lines
}

// grant is a lock that an unlock of this proxy handed to one of its waiters. sent is when that was asked.
type grant struct {
	fence int64
	sent  time.Time
}

// served is a memo value that was fetched for a waiter, or the message of a rejection. struck says that
// the script which stored it took the waiter out of the line.
type served struct {
	value    string
	fence    int64   // of the promise that the value was made for, 0: it is for whoever waits
	shared   *Shared // of all whom the value was fetched for
	struck   bool
	rejected bool
}

func (w *waiter) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// drain forgets what w was told so far, but for what it has.
func (w *waiter) drain() {
	w.struck.Store(false)
	select {
	case <-w.bell:
	default:
	}
	select {
	case <-w.first:
	default:
	}
}

func (w *waiter) isFirst(ends time.Time) {
	select {
	case w.first <- ends:
	default:
		w.ring()
	}
}

func (w *waiter) serve(s served) {
	select {
	case w.value <- s:
	default:
	}
}

// waiters are all calls of this proxy that wait, and the memo callers among them by name.
type waiters struct {
	max int

	mu   sync.Mutex
	seq  uint64
	all  map[uint64]*waiter
	memo map[string]map[uint64]*waiter // of all databases: notif channels know none

	paced map[string]time.Time // when one of many memo callers of a name last asked again

	lines     map[line]*list.List           // KS.LOCK callers that were told to wait, in that order
	observers map[line]map[uint64]*waiter   // KS.WAIT callers; they stand in no line
	named     map[string]map[uint64]*waiter // all who stand in line, by name; nil unless KeySmith is listened to
}

func newWaiters(limit int) *waiters {
	return &waiters{
		max: limit, all: map[uint64]*waiter{}, memo: map[string]map[uint64]*waiter{}, paced: map[string]time.Time{},
		lines: map[line]*list.List{}, observers: map[line]map[uint64]*waiter{},
	}
}

// nextSeq numbers an attempt.
func (ws *waiters) nextSeq() uint64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.seq++
	return ws.seq
}

// add registers a call, or returns nil when there are too many.
func (ws *waiters) add(l line, token string, memo bool) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.all) >= ws.max {
		return nil
	}
	ws.seq++
	w := &waiter{line: l, seq: ws.seq, token: token, bell: make(chan struct{}, 1)}
	w.since.Store(-1)
	ws.all[w.seq] = w
	if ws.named != nil {
		join(ws.named, w)
	}
	if memo {
		w.value = make(chan served, 1)
		join(ws.memo, w)
	}
	return w
}

func join(groups map[string]map[uint64]*waiter, w *waiter) {
	group := groups[w.name]
	if group == nil {
		group = map[uint64]*waiter{}
		groups[w.name] = group
	}
	group[w.seq] = w
}

func part(groups map[string]map[uint64]*waiter, w *waiter) {
	delete(groups[w.name], w.seq)
	if len(groups[w.name]) == 0 {
		delete(groups, w.name)
	}
}

// remove forgets w.
func (ws *waiters) remove(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w.seq)
	part(ws.named, w)
	part(ws.memo, w)
	if ws.memo[w.name] == nil {
		delete(ws.paced, w.name)
	}
	ws.unline(w)
}

// stands notes that w, which is c's, was told to wait for its lock, after all who were told before.
func (ws *waiters) stands(w *waiter, c *call) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	l := ws.lines[w.line]
	if l == nil {
		l = list.New()
		ws.lines[w.line] = l
	}
	w.direct, w.first = make(chan grant, 1), make(chan time.Time, 1)
	w.call, w.stand = c, l.PushBack(w)
}

func (ws *waiters) unline(w *waiter) {
	if w.stand == nil {
		return
	}
	l := ws.lines[w.line]
	l.Remove(w.stand)
	w.stand = nil
	if l.Len() == 0 {
		delete(ws.lines, w.line)
	}
}

// head is who of this proxy probably stands first in line; nil if nobody does. Only Redis knows: others
// may stand before, and what is told here comes in another order when calls cross.
func (ws *waiters) head(l line) *waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if list := ws.lines[l]; list != nil {
		return list.Front().Value.(*waiter)
	}
	return nil
}

// handed tells w that it has the lock.
func (ws *waiters) handed(w *waiter, g grant) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.unline(w)
	select {
	case w.direct <- g:
	default:
		w.ring()
	}
}

// isFirst tells a waiter that it has become first in line behind a lease that ends then; false if it is not
// there.
func (ws *waiters) isFirst(seq uint64, ends time.Time) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.all[seq]
	if w != nil {
		w.isFirst(ends)
	}
	return w != nil
}

// ringToken rings who waits for a name with that token, in whatever database; ringNamed all who wait for it.
func (ws *waiters) ringToken(name, token string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.named[name] {
		if w.token == token {
			w.ring()
		}
	}
}

func (ws *waiters) ringNamed(name string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.named[name] {
		w.ring()
	}
}

// addObserver registers a KS.WAIT caller, or returns nil when there are too many waiters.
func (ws *waiters) addObserver(l line) *waiter {
	w := ws.add(l, "", false)
	if w == nil {
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	group := ws.observers[l]
	if group == nil {
		group = map[uint64]*waiter{}
		ws.observers[l] = group
	}
	group[w.seq] = w
	return w
}

func (ws *waiters) removeObserver(w *waiter) {
	ws.remove(w)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.observers[w.line], w.seq)
	if len(ws.observers[w.line]) == 0 {
		delete(ws.observers, w.line)
	}
}

// ringObservers rings the KS.WAIT callers of a line.
func (ws *waiters) ringObservers(l line) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.observers[l] {
		w.ring()
	}
}

// ring rings the waiter with that number; false if there is none.
func (ws *waiters) ring(seq uint64) bool {
	ws.mu.Lock()
	w := ws.all[seq]
	ws.mu.Unlock()
	if w == nil {
		return false
	}
	w.ring()
	return true
}

// Memo callers of one line, if they are many, take turns in asking again, as one finds out for all: so what a herd asks
// does not grow with it.
const (
	paceFrom  = 20                    // as many need not
	paceEvery = 50 * time.Millisecond // one of all asks
)

// pace is how long w, for which it is time to ask again, is to wait for its turn; 0: it may ask now.
func (ws *waiters) pace(w *waiter, now time.Time) time.Duration {
	if w.value == nil {
		return 0
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	n := len(ws.memo[w.name])
	if n <= paceFrom {
		return 0
	}
	if now.Sub(ws.paced[w.name]) >= paceEvery {
		ws.paced[w.name] = now
		return 0
	}
	return time.Duration(n) * (paceEvery/2 + rand.N(paceEvery))
}

// ringLine rings everyone of a line: after a script whose reply, with the names of those to ring, was
// lost.
func (ws *waiters) ringLine(l line) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		if w.line == l {
			w.ring()
		}
	}
}

// ringAll rings everyone, spread over the given time, so that a reconnection is not met by all asks at
// once.
func (ws *waiters) ringAll(spread time.Duration) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		time.AfterFunc(rand.N(spread), w.ring)
	}
}

// memoCallers returns the memo callers that wait in l now.
func (ws *waiters) memoCallers(l line) []*waiter {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	callers := make([]*waiter, 0, len(ws.memo[l.name]))
	for _, w := range ws.memo[l.name] {
		if w.db == l.db {
			callers = append(callers, w)
		}
	}
	return callers
}

// memoLines returns the lines of name, one for each database, that have memo callers.
func (ws *waiters) memoLines(name string) []line {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	met := map[int]bool{}
	var lines []line
	for _, w := range ws.memo[name] {
		if !met[w.db] {
			met[w.db] = true
			lines = append(lines, w.line)
		}
	}
	return lines
}

// hasMemoCallers reports whether anyone waits for the value of name, in whatever database; hasNamed whether
// anyone waits for it at all.
func (ws *waiters) hasMemoCallers(name string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.memo[name]) > 0
}

func (ws *waiters) hasNamed(name string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.named[name]) > 0
}

func (ws *waiters) count() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.all)
}
