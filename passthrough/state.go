package passthrough

import "strings"

// State is what is known of a connection to Redis, from its replies.
type State struct {
	DB      int   // the selected database
	RESP    int   // protocol version, 2 or 3
	Multi   bool  // within MULTI
	Watched bool  // keys are WATCHed, or may be since replies were off
	Monitor bool  // in MONITOR mode
	Off     bool  // CLIENT REPLY OFF
	Skip    bool  // the reply to the next request is skipped
	Unsure  bool  // DB and RESP may have changed unseen, while replies were off
	subs    int64 // channels and patterns
	pats    int64 // patterns
	shards  int64 // shard channels
	queued  []queued
	nqueued int64
}

// queued is a command with an effect that waits for EXEC.
type queued struct {
	index  int64 // its place in the transaction
	effect Effect
	arg    int64
}

// Subscriber reports whether the connection is in RESP2's subscriber mode, in
// which Redis refuses ordinary commands, and replies and messages look alike.
func (s *State) Subscriber() bool { return s.RESP == 2 && s.subs+s.shards > 0 }

// Subscribed reports whether there are any subscriptions.
func (s *State) Subscribed() bool { return s.subs+s.shards > 0 }

// settleSilent takes the requests from the line that Redis answers with
// silence: CLIENT REPLY OFF and SKIP themselves, and what they silence. That a
// refused CLIENT REPLY does answer is found out when its error comes unasked.
func (l *Lane) settleSilent() (silent int64, reason string) {
	for h := l.owed.head(); h != nil; h = l.owed.head() {
		var n int64
		switch {
		case l.state.Off:
			n, reason = l.whileOff(h)
		case l.state.Skip:
			n, reason = l.whileSkip(h)
		default:
			n, reason = l.whileOn(h)
		}
		if n == 0 || reason != "" {
			return silent, reason
		}
		if h.effect != Empty && h.sink == l.owner {
			silent += n
		}
		l.owed.take(n)
	}
	return silent, ""
}

// whileOn returns how many requests of h have no reply.
func (l *Lane) whileOn(h *entry) (int64, string) {
	switch {
	case h.effect == Empty, h.effect == Monitor && l.state.Monitor:
		return 1, "" // Redis ignores both
	case h.effect == Replica:
		return 0, replication
	case h.effect != ReplyOff && h.effect != ReplySkip, l.state.Multi, l.state.Subscriber():
		return 0, "" // in the latter states CLIENT REPLY is queued or refused
	}
	l.state.Off = h.effect == ReplyOff
	l.state.Skip = h.effect == ReplySkip
	return 1, ""
}

// replication is why a lane becomes a pipe at SYNC, PSYNC and REPLCONF: some
// forms have no reply, others more than a reply.
const replication = "replication"

// whileOff is whileOn under CLIENT REPLY OFF.
func (l *Lane) whileOff(h *entry) (int64, string) {
	switch h.effect {
	case ReplyOn, Reset:
		return 0, ""
	case Replica:
		return 0, replication
	case Multi, Monitor:
		return 0, "MULTI or MONITOR under CLIENT REPLY OFF"
	case Subscribe, PSubscribe, SSubscribe, Unsubscribe, PUnsubscribe, SUnsubscribe:
		// Acknowledged all the same, unless refused. A subscriber in RESP2 is
		// refused CLIENT REPLY ON, in silence.
		if l.state.RESP == 2 || l.state.Unsure {
			return 0, "subscriptions under CLIENT REPLY OFF"
		}
	case Select, Hello:
		l.state.Unsure = true
	case Watch:
		l.state.Watched = true // until it is seen to end: an unheard UNWATCH may have been refused
	}
	return h.n, ""
}

// whileSkip is whileOn for the request after CLIENT REPLY SKIP.
func (l *Lane) whileSkip(h *entry) (int64, string) {
	switch h.effect {
	case ReplyOn:
		l.state.Skip = false
		return 0, ""
	case ReplySkip:
		return 1, ""
	case ReplyOff:
		l.state.Off = true
	case Plain, Empty, Unwatch:
	case Select, Hello:
		l.state.Unsure = true
	case Watch:
		l.state.Watched = true
	default:
		return 0, "CLIENT REPLY SKIP before a command that changes the connection"
	}
	l.state.Skip = false
	return 1, ""
}

// endFrame books the complete frame: how many requests it answers, and why the
// lane must become a pipe, if so.
func (l *Lane) endFrame() (answered int64, reason string) {
	f, h := &l.frames, l.owed.head()
	if f.top == '>' || (l.pubsub && f.top == '*' && isPubsub(f.kind())) {
		if done, ours := l.pubsubFrame(h); ours {
			return done, ""
		}
	}
	if l.state.Monitor && isFeed(f) {
		return 0, ""
	}
	if h == nil {
		return 0, "Redis said something unasked"
	}
	if f.top == '-' && f.is("-ERR Protocol error") {
		return 1, "Redis closes the connection after a protocol error"
	}
	if reason := l.apply(h); reason != "" {
		return 1, reason
	}
	l.owed.take(1)
	return 1, ""
}

// pubsubFrame books a message or an acknowledgement. ours is false if the
// frame is an ordinary reply that only looks like one.
func (l *Lane) pubsubFrame(h *entry) (answered int64, ours bool) {
	f := &l.frames
	ack, ok := acks[f.kind()]
	if f.top == '*' && !l.state.Subscriber() && !l.state.Off && (h == nil || !ok || h.effect != ack) {
		return 0, false
	}
	if !ok {
		return 0, true
	}
	expected := l.state.count(ack)
	l.state.acknowledge(ack, f.last)
	if h == nil || h.effect != ack {
		return 0, true // server-initiated, or under CLIENT REPLY OFF
	}
	if h.acks == 0 {
		if h.acks = h.arg; h.arg == 0 {
			h.acks = max(1, expected)
		}
	}
	if h.acks--; h.acks > 0 {
		return 0, true
	}
	l.owed.take(1)
	return 1, true
}

// apply lets the reply that f holds take effect for the request at the head.
func (l *Lane) apply(h *entry) (reason string) {
	f, s := &l.frames, &l.state
	if s.Multi && f.top == '+' && f.is("+QUEUED") {
		return l.queue(h)
	}
	switch h.effect {
	case Plain:
	case Select:
		if f.top == '+' && f.is("+OK") {
			s.DB = int(h.arg)
		}
	case Multi:
		if f.top == '+' && f.is("+OK") {
			s.Multi, s.nqueued, s.queued = true, 0, nil
		}
	case Exec:
		l.executed()
	case Discard:
		if f.top == '+' && f.is("+OK") {
			s.Multi, s.queued, s.Watched = false, nil, false
		}
	case Watch, Unwatch:
		if f.top == '+' && f.is("+OK") {
			s.Watched = h.effect == Watch
		}
	case Reset:
		if f.top == '+' && f.is("+RESET") {
			*s = State{RESP: 2}
			l.reset = true
		}
	case Hello:
		s.hello(f.top)
	case Monitor:
		s.Monitor = s.Monitor || (f.top == '+' && f.is("+OK"))
	case ReplyOn:
		if f.top == '+' && f.is("+OK") {
			s.Off, s.Skip = false, false
		}
	}
	return ""
}

func (s *State) hello(top byte) {
	switch top {
	case '%':
		s.RESP = 3
	case '*':
		s.RESP = 2
	}
}

// queue books a command that Redis queued. Replies to a transaction that
// subscribes or changes the reply mode can't be counted (Redis itself breaks
// the arity of EXEC's reply there).
func (l *Lane) queue(h *entry) (reason string) {
	s := &l.state
	switch {
	case h.effect.subscription(), h.effect.replyMode():
		return "subscriptions or CLIENT REPLY within MULTI"
	case h.effect == Select, h.effect == Hello:
		s.queued = append(s.queued, queued{s.nqueued, h.effect, h.arg})
	}
	s.nqueued++
	return ""
}

// executed ends a transaction: EXEC ends it whatever it answers, and with it the
// watching of keys. One that Redis refuses to run discards it, and unwatches also
// where there is none (execCommandAbort in multi.c).
func (l *Lane) executed() {
	f, s := &l.frames, &l.state
	if s.Multi || f.is("-EXECABORT") {
		s.Watched = false
	}
	for _, q := range s.queued {
		if f.top != '*' || q.index >= int64(len(f.elements)) {
			break
		}
		switch typ := f.elements[q.index]; q.effect {
		case Select:
			if typ == 'K' {
				s.DB = int(q.arg)
			}
		case Hello:
			s.hello(typ)
		}
	}
	s.Multi, s.nqueued, s.queued = false, 0, nil
}

// acks names the acknowledgements of the subscription commands.
var acks = map[string]Effect{
	"subscribe": Subscribe, "psubscribe": PSubscribe, "ssubscribe": SSubscribe,
	"unsubscribe": Unsubscribe, "punsubscribe": PUnsubscribe, "sunsubscribe": SUnsubscribe,
}

// isPubsub reports whether an array that begins with kind may be a pub/sub frame.
func isPubsub(kind string) bool {
	_, ok := acks[kind]
	return ok || kind == "message" || kind == "pmessage" || kind == "smessage"
}

// count is the number of subscriptions that an (un)subscribe command is about.
func (s *State) count(e Effect) int64 {
	switch e {
	case Subscribe, Unsubscribe:
		return s.subs - s.pats
	case PSubscribe, PUnsubscribe:
		return s.pats
	}
	return s.shards
}

// acknowledge books an acknowledgement, which tells the new count: channels and
// patterns together, or shard channels.
func (s *State) acknowledge(e Effect, count int64) {
	switch e {
	case SSubscribe, SUnsubscribe:
		s.shards = count
	case PSubscribe, PUnsubscribe:
		s.pats += count - s.subs
		s.subs = count
	default:
		s.subs = count
	}
}

// isFeed reports whether f is a line of MONITOR's feed, "+1339518083.107412 [0 …",
// and not a reply.
func isFeed(f *frames) bool {
	if f.top != '+' || len(f.line) < 2 || f.line[1] < '0' || f.line[1] > '9' {
		return false
	}
	stamp, rest, ok := strings.Cut(string(f.line[1:]), " ")
	return ok && strings.Contains(stamp, ".") && strings.HasPrefix(rest, "[")
}
