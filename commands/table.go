package commands

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tidwall/redcon"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// command is one entry of the table.
type command struct {
	name    string // lower case, as in error texts
	arity   int    // as in Redis: with the name; negative: at least that many
	usage   string // for KS.HELP
	summary string
	run     func(*Table, context.Context, Session, [][]byte, []byte) []byte
}

// longestName bounds the names Knows looks up.
const longestName = 16

// commands in the order of KS.HELP. A function, as KS.HELP reads it.
func commands() []command {
	return []command{
		{
			"ks.lock", -2, "KS.LOCK name [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]",
			"Wait in line for the lock and take it: token and fence, or nil. PX, EX: the lease, in milliseconds or seconds. " +
				"SESSION: as long as this connection. WAIT: for so many milliseconds, 0: as long as it takes. TOKEN: yours, to ask again with.",
			(*Table).lock,
		},
		{
			"ks.unlock", -2, "KS.UNLOCK name [token]",
			"Give the lock back, and on to the next in line: 1, or 0 if the token does not hold it. Without a token: what this connection was last granted.",
			(*Table).unlock,
		},
		{
			"ks.extend", -5, "KS.EXTEND name token PX ms | EX s",
			"Let the lease of a lock or promise end in so many milliseconds or seconds: 1, or 0 if the token does not hold it.",
			(*Table).extend,
		},
		{
			"ks.mlock", -3, "KS.MLOCK numkeys name [name ...] [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]",
			"Take all these locks with one token, or none: token and a fence for each, or nil. Units and options as in KS.LOCK (milliseconds, seconds).",
			(*Table).mlock,
		},
		{
			"ks.munlock", -4, "KS.MUNLOCK numkeys name [name ...] token",
			"Give back these locks: how many of them the token held.",
			(*Table).munlock,
		},
		{
			"ks.guard", -4, "KS.GUARD name token command [arg ...]",
			"Run the command if the token holds the lock at that very moment, and reply what it replies; else an error LOCKLOST, and nothing is run.",
			(*Table).guard,
		},
		{
			"ks.wait", 3, "KS.WAIT name ms",
			"Wait until the hold that stands now has ended, without standing in line: 1, or 0 when so many milliseconds passed first. 0: as long as it takes.",
			(*Table).wait,
		},
		{
			"ks.status", 2, "KS.STATUS name",
			"Fields and values: held, ttl in milliseconds, owner, fence, waiters, value, error.",
			(*Table).status,
		},
		{
			"ks.memo", -2, "KS.MEMO name [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]",
			"The value if there is one: value, v (stale, v: another is making the next, see KS.RESOLVE). Else generate, token: compute it, then KS.RESOLVE or KS.REJECT, or give up with KS.UNLOCK. " +
				"While another does: wait. PX, EX: how long computing may take, in milliseconds or seconds. Options as in KS.LOCK.",
			(*Table).memo,
		},
		{
			"ks.resolve", -4, "KS.RESOLVE name token value [PX ms | EX s] [STALE ms]",
			"Store the value that was promised and tell all who wait for it: 1, or 0 if the token no longer holds the promise. " +
				"PX, EX: how long the value lives, in milliseconds or seconds. STALE: for so many milliseconds after that KS.MEMO answers stale, v to all " +
				"but the one who makes the next.",
			(*Table).resolve,
		},
		{
			"ks.reject", -4, "KS.REJECT name token message [PX ms | EX s]",
			"There will be no value: all who wait get -MEMOERR message. PX, EX: so do all who ask, for so many milliseconds or seconds. " +
				"1, or 0 if the token no longer holds the promise.",
			(*Table).reject,
		},
		{
			"ks.forget", 2, "KS.FORGET name",
			"What the value is made from has changed: remove the value, its stale copy and a memoized error, and revoke the promise of who is making it now " +
				"(KS.RESOLVE answers 0, the next caller generates): 1, or 0 if there was nothing.",
			(*Table).forget,
		},
		{"ks.help", 1, "KS.HELP", "These lines.", (*Table).help},
	}
}

// Table runs the KS.* commands on an engine.
type Table struct {
	engine *engine.Engine
	byName map[string]command
}

// New returns the table of all commands. The engine stays the caller's to close.
func New(e *engine.Engine) *Table {
	t := &Table{engine: e, byName: map[string]command{}}
	for _, c := range commands() {
		t.byName[c.name] = c
	}
	return t
}

// Knows reports whether name, in any case, is one of ours. It does not allocate.
func (t *Table) Knows(name []byte) bool {
	_, ok := t.lookup(name)
	return ok
}

func (t *Table) lookup(name []byte) (command, bool) {
	if len(name) < 4 || len(name) > longestName || name[2] != '.' {
		return command{}, false
	}
	var lower [longestName]byte
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	c, ok := t.byName[string(lower[:len(name)])]
	return c, ok
}

// Run executes a command that Knows knows, for s, and appends its reply to dst; with dst nil the result may be
// that of other callers, too, and must not be changed. It blocks while the
// command waits. When ctx ends, a command that waits answers as its cause demands: nil for a client
// that hung up (what it sent behind is still answered), an error at shutdown.
func (t *Table) Run(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	c, ok := t.lookup(args[0])
	if !ok {
		return redcon.AppendError(dst, "ERR unknown command")
	}
	if c.arity >= 0 && len(args) != c.arity || len(args) < -c.arity {
		return appendArity(dst, c.name)
	}
	return c.run(t, ctx, s, args, dst)
}

func appendArity(dst []byte, name string) []byte {
	return redcon.AppendError(dst, "ERR wrong number of arguments for '"+name+"' command")
}

// Read returns the key of the value that args, a KS.MEMO, would be answered with; false for all other commands, and
// for those that are refused.
func (t *Table) Read(args [][]byte) (key []byte, ok bool) {
	if len(args) < 2 || !is(args[0], "KS.MEMO") {
		return nil, false
	}
	if _, p := parseOptions("ks.memo", args[2:], memoOptions); p != noProblem || !t.engine.MayRead(string(args[1])) {
		return nil, false
	}
	return args[1], true
}

// AppendFound appends the reply to a KS.MEMO whose value is in reply, which Redis has sent for its GET; false if there
// is no value.
func (t *Table) AppendFound(dst, reply []byte) ([]byte, bool) {
	if len(reply) < 2 || reply[0] != '$' || reply[1] == '-' {
		return dst, false
	}
	return append(append(dst, "*2\r\n$5\r\nvalue\r\n"...), reply...), true
}

// Ahead is told of a command that the client has sent behind the one that runs: what gives a lock back behind a wait
// for the very lock would never be reached. Arguments of it that have not come yet are nil; it is told of again when
// more of them have. With nil that is over.
func (t *Table) Ahead(s Session, args [][]byte) {
	switch {
	case args == nil:
		t.engine.ForgetAhead(s)
	case slices.ContainsFunc(args[:min(len(args), 3)], func(arg []byte) bool { return arg == nil }): // too early to tell
	case len(args) >= 4 && len(args[2]) > 0 && (is(args[0], "KS.RESOLVE") || is(args[0], "KS.REJECT")):
		_, p := parseOptions("", args[4:], accepted{stale: is(args[0], "KS.RESOLVE")})
		if p == noProblem || args[len(args)-1] == nil {
			t.engine.UnlockAhead(s, string(args[1]), string(args[2]))
		}
	case len(args) == 2 && is(args[0], "KS.UNLOCK"):
		t.engine.UnlockAhead(s, string(args[1]), "")
	case len(args) == 3 && is(args[0], "KS.UNLOCK"):
		t.engine.UnlockAhead(s, string(args[1]), string(args[2]))
	case len(args) >= 4 && is(args[0], "KS.MUNLOCK"):
		names, rest, p := parseNames(args[1:])
		if args[len(args)-1] == nil || p != noProblem || len(rest) != 1 {
			return
		}
		for _, name := range names {
			t.engine.UnlockAhead(s, name, string(rest[0]))
		}
	}
}

// Ended is told when the connection of s has closed, or was RESET: what was granted to it for as long as it
// lasts is released. It does not block. No Run for s may be under way.
func (t *Table) Ended(s Session) { t.engine.Ended(s) }

// appendNil is the nil of commands whose other reply is an array.
func appendNil(dst []byte, s Session) []byte {
	if s.RESP() == 3 {
		return append(dst, "_\r\n"...)
	}
	return append(dst, "*-1\r\n"...)
}

func appendBool(dst []byte, ok bool) []byte {
	if ok {
		return redcon.AppendInt(dst, 1)
	}
	return redcon.AppendInt(dst, 0)
}

// appendFailure is the reply for an error of the engine. Line breaks in it become spaces, or it could
// end the reply early and begin another.
func appendFailure(dst []byte, s Session, err error) []byte {
	var redis engine.RedisError
	var unavailable *engine.UnavailableError
	var deadlock *engine.DeadlockError
	var rejected *engine.RejectedError
	var lockLost *engine.LockLostError
	var aborted *engine.AbortedError
	switch {
	case errors.Is(err, engine.ErrNotGranted), errors.Is(err, ErrHangUp):
		return appendNil(dst, s)
	case errors.As(err, &redis):
		return appendError(dst, string(redis))
	case errors.As(err, &rejected):
		return appendError(dst, "MEMOERR "+rejected.Message)
	case errors.As(err, &deadlock):
		return appendError(dst, "DEADLOCK "+deadlock.Error())
	case errors.As(err, &unavailable):
		return appendError(dst, "KSUNAVAILABLE "+unavailable.Reason)
	case errors.Is(err, ErrShutdown):
		return appendError(dst, "KSUNAVAILABLE "+ErrShutdown.Error())
	case errors.As(err, &lockLost):
		return appendError(dst, "LOCKLOST "+lockLost.Error())
	case errors.Is(err, engine.ErrInvalidName), errors.Is(err, engine.ErrTooManyWaiters),
		errors.Is(err, engine.ErrWatching), errors.As(err, &aborted):
		return appendError(dst, "ERR "+err.Error())
	default: // the session is lost, nobody reads this
		return appendError(dst, "KSUNAVAILABLE "+err.Error())
	}
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func appendError(dst []byte, text string) []byte {
	return redcon.AppendError(dst, lineBreaks.Replace(text))
}
