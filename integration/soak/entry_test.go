package soak

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// outcome is what the caller was told.
type outcome int

const (
	unknown outcome = iota // nothing, or an error that leaves it open
	yes
	no
)

// margin is how far two clocks, or a clock and Redis's expiry, may be apart.
const margin = int64(100 * time.Millisecond)

// late is how long a request whose reply was lost may still be under way.
const late = int64(20 * time.Second)

// record is a value or a rejection that somebody wanted to have stored.
type record struct {
	kind    string // resolve, set, publish, reject
	id      int64
	version int64 // of the source it was made from
	size    int   // of its padding
	resent  bool  // its promise was asked for more than once
	ttl     time.Duration
	stale   time.Duration

	call, ret int64 // ret is 0 until it is known to be stored
	outcome   outcome
	seen      bool
	text      string
}

// entry is one name in one database.
type entry struct {
	*cycle
	db     int
	name   string
	source atomic.Int64 // the version of what its values are made from

	mu        sync.Mutex
	records   map[int64]*record
	floor     int64  // the source at the last KS.FORGET that was answered
	forgotten int64  // when that was sent
	replaced  int64  // when the last accepted KS.RESOLVE or answered KS.FORGET was sent
	removed   int64  // the same, also of DEL and SET
	forgets   []span // sent and answered (0: never)
	changing  int    // changes under way
	crowded   bool   // the last that began was not alone
	changes   uint64 // changes that have begun
	doubtful  int64  // until then a change whose reply was lost may take effect
	certain   *record
	holds     []hold
	trace     []string
}

func newEntry(c *cycle, db int, name string) *entry {
	return &entry{cycle: c, db: db, name: name, records: map[int64]*record{}}
}

type span struct{ call, ret int64 }

// view is what was known of an entry when a call was sent.
type view struct {
	at                                  int64
	floor, forgotten, replaced, removed int64
	changes                             uint64
	certain                             *record
}

func (e *entry) look() view {
	e.mu.Lock()
	defer e.mu.Unlock()
	return view{e.now(), e.floor, e.forgotten, e.replaced, e.removed, e.changes, e.certain}
}

// make is a new value or rejection, not yet sent.
func (e *entry) make(kind string, version int64, size int) *record {
	r := &record{kind: kind, id: e.serial.Add(1), version: version, size: size}
	r.text = fmt.Sprintf("%d|%q|%s|%d|%d|%s", e.db, e.name, kind, r.id, version, strings.Repeat("x", size))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records[r.id] = r
	return r
}

// change notes that a change of the value is about to be sent; what was certain then.
func (e *entry) change() (certain *record, number uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changing == 0 {
		certain = e.certain
	}
	e.certain = nil
	e.crowded = e.changing > 0
	e.changing++
	e.changes++
	return certain, e.changes
}

// changed notes how it ended: what removes earlier values was sent at call; stored is what is there now, if it is known.
func (e *entry) changed(number uint64, call int64, o outcome, stored *record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changing--
	if o == unknown {
		e.doubtful = e.now() + late
		return
	}
	if o == yes {
		e.removed = max(e.removed, call)
	}
	if stored != nil && !e.crowded && e.changes == number && e.now() > e.doubtful {
		e.certain = stored
	}
}

// settled notes the outcome of a record.
func (e *entry) settled(r *record, o outcome, ret int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.outcome = o
	switch o {
	case yes:
		r.ret = ret
		if r.kind == "resolve" {
			e.replaced = max(e.replaced, r.call)
		}
	case no:
		if r.seen {
			e.wrong("%s was refused and was seen", r.text60())
		}
	}
}

func (r *record) text60() string { return fmt.Sprintf("%.60s", r.text) }

// find is the record that text is; nil, after complaint, if there is none.
func (e *entry) find(what, text string) *record {
	parts := strings.SplitN(text, "|", 6)
	if len(parts) != 6 || parts[0] != strconv.Itoa(e.db) || parts[1] != strconv.Quote(e.name) {
		e.wrong("%s of another name: %.100q", what, text)
		return nil
	}
	id, _ := strconv.ParseInt(parts[3], 10, 64)
	r := e.records[id]
	if r == nil || r.text != text {
		e.wrong("%s that nobody made: %.100q", what, text)
		return nil
	}
	return r
}

// value checks a value that a KS.MEMO was answered, sent at v.at.
func (e *entry) value(v view, now int64, text string, stale bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	what := "a value"
	if stale {
		what = "a stale value"
	}
	r := e.find(what, text)
	if r == nil {
		return
	}
	r.seen = true
	told := func(why string, args ...any) {
		e.wrong("%s %s: %s (asked at %v, answered at %v; stored from %v to %v, ttl %v, stale %v)", what, r.text60(), fmt.Sprintf(why, args...),
			time.Duration(v.at), time.Duration(now), time.Duration(r.call), time.Duration(r.ret), r.ttl, r.stale)
	}
	gone := v.removed
	lives := r.ttl
	if stale {
		gone = v.replaced
		lives += r.stale
	}
	switch {
	case r.kind == "reject":
		told("it is a rejection")
	case r.outcome == no:
		told("it was refused")
	case r.call == 0 || r.call > now:
		told("it was not sent yet")
	case r.kind == "resolve" && !r.resent && r.version < v.floor:
		told("older than the source %d at the last KS.FORGET, sent at %v", v.floor, time.Duration(v.forgotten))
	case r.ret != 0 && r.ret < v.forgotten:
		told("stored before the last KS.FORGET, sent at %v", time.Duration(v.forgotten))
	case r.ret != 0 && r.ret < gone:
		told("removed or replaced by what was sent at %v", time.Duration(gone))
	case r.ret != 0 && r.ttl > 0 && r.ret+int64(lives)+margin < v.at:
		told("its time was over")
	case stale && r.stale == 0:
		told("it has no stale time")
	case stale && now < r.call+int64(r.ttl):
		told("its time is not over")
	case !stale && v.certain != nil && v.certain != r:
		e.stands(v, now, "value "+r.text60())
	}
}

// stands complains if a value was certainly there from when v was taken until now. lock: held.
func (e *entry) stands(v view, now int64, answer string) {
	c := v.certain
	if c == nil || e.changes != v.changes || c.ttl > 0 && c.call+int64(c.ttl) <= now {
		return
	}
	e.wrong("answered %s while the value %s stood (asked at %v, answered at %v; stored from %v to %v, ttl %v)", answer, c.text60(),
		time.Duration(v.at), time.Duration(now), time.Duration(c.call), time.Duration(c.ret), c.ttl)
}

// other checks an answer that is no value.
func (e *entry) other(v view, now int64, answer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stands(v, now, answer)
}

// rejection checks a MEMOERR.
func (e *entry) rejection(v view, now int64, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.find("a rejection", message)
	if r == nil {
		return
	}
	r.seen = true
	told := func(why string) {
		e.wrong("the rejection %s: %s (asked at %v, answered at %v; sent %v, known %v, ttl %v, last KS.FORGET %v)", r.text60(), why,
			time.Duration(v.at), time.Duration(now), time.Duration(r.call), time.Duration(r.ret), r.ttl, time.Duration(v.forgotten))
	}
	switch {
	case r.kind != "reject":
		told("it is a value")
	case r.outcome == no:
		told("it was refused")
	case r.call == 0 || r.call > now:
		told("it was not sent yet")
	case r.ret != 0 && r.ttl == 0 && r.ret < v.at:
		told("delivered to who came after it")
	case r.ret != 0 && r.ttl > 0 && r.ret+int64(r.ttl)+margin < v.at:
		told("its time was over")
	case r.ret != 0 && r.ret < v.forgotten:
		told("delivered to who came after KS.FORGET")
	default:
		e.stands(v, now, "MEMOERR")
	}
}

// forget and forgot note a KS.FORGET and its answer (0: none).
func (e *entry) forget(call int64) (index int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgets = append(e.forgets, span{call: call})
	return len(e.forgets) - 1
}

func (e *entry) forgot(index int, version, call, ret int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgets[index].ret = ret
	e.floor = max(e.floor, version)
	e.forgotten = max(e.forgotten, call)
	e.replaced = max(e.replaced, call)
}

// wrong complains, with what happened last to this name. lock: held.
func (e *entry) wrong(format string, args ...any) {
	e.blame(fmt.Sprintf("db %d %q: ", e.db, e.name)+fmt.Sprintf(format, args...), e.trace)
}

func (e *entry) complain(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wrong(format, args...)
}

// note keeps what happened, for a complaint.
func (e *entry) note(line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.trace) >= 400 {
		e.trace = append(e.trace[:0], e.trace[200:]...)
	}
	e.trace = append(e.trace, line)
}
