package commands

import (
	"context"
	"errors"

	"github.com/tidwall/redcon"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// request makes the engine's request of name and options.
func (t *Table) request(name []byte, o options) engine.Request {
	r := engine.Request{
		Name: string(name), Token: string(o.token), Lease: o.expire, Session: o.session, Wait: o.wait, NoWait: o.nowait,
	}
	if !o.waitGiven {
		r.Wait = t.engine.LockWait()
	}
	return r
}

// lock: KS.LOCK name [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]; array of token and fence, or
// nil.
func (t *Table) lock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.lock", args[2:], accepted{wait: true, hold: true})
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	grant, err := t.engine.Lock(ctx, s, t.request(args[1], o))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	dst = redcon.AppendArray(dst, 2)
	dst = redcon.AppendBulkString(dst, grant.Token)
	return redcon.AppendInt(dst, grant.Fence)
}

// unlock: KS.UNLOCK name [token]; 1 or 0.
func (t *Table) unlock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	if len(args) > 3 {
		return appendArity(dst, "ks.unlock")
	}
	token := ""
	if len(args) == 3 {
		if token = string(args[2]); token == "" {
			return appendBool(dst, false) // nobody's; to the engine it would be the last granted one
		}
	}
	released, err := t.engine.Unlock(ctx, s, string(args[1]), token)
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, released)
}

// extend: KS.EXTEND name token PX ms | EX s; 1 or 0.
func (t *Table) extend(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.extend", args[3:], accepted{})
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	if o.expire == 0 {
		return redcon.AppendError(dst, string(syntaxError))
	}
	extended, err := t.engine.Extend(ctx, s, string(args[1]), string(args[2]), o.expire)
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, extended)
}

// wait: KS.WAIT name ms; 1 or 0.
func (t *Table) wait(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	ms, p := parseTimeout(args[2])
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	ended, err := t.engine.Wait(ctx, s, string(args[1]), ms)
	if err != nil && !errors.Is(err, ErrHangUp) {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, ended)
}

// status: KS.STATUS name; flat array of field, value.
func (t *Table) status(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	st, err := t.engine.Status(ctx, s, string(args[1]))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	dst = redcon.AppendArray(dst, 14)
	dst = appendBool(redcon.AppendBulkString(dst, "held"), st.Held)
	dst = redcon.AppendInt(redcon.AppendBulkString(dst, "ttl"), st.TTL)
	dst = redcon.AppendBulkString(redcon.AppendBulkString(dst, "owner"), st.Owner)
	dst = redcon.AppendInt(redcon.AppendBulkString(dst, "fence"), st.Fence)
	dst = redcon.AppendInt(redcon.AppendBulkString(dst, "waiters"), st.Waiters)
	dst = appendBool(redcon.AppendBulkString(dst, "value"), st.Value)
	return appendBool(redcon.AppendBulkString(dst, "error"), st.Failed)
}
