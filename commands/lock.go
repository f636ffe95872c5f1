package commands

import (
	"context"

	"github.com/tidwall/redcon"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// request makes the engine's request of name and options.
func (t *Table) request(name []byte, o options) engine.Request {
	r := engine.Request{Name: string(name), Lease: o.expire, Wait: o.wait, NoWait: o.nowait}
	if !o.waitGiven {
		r.Wait = t.engine.LockWait()
	}
	return r
}

// lock: KS.LOCK name [PX ms | EX s] [WAIT ms | NOWAIT]; array of token and fence, or nil.
func (t *Table) lock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.lock", args[2:], accepted{wait: true})
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

// unlock: KS.UNLOCK name token; 1 or 0.
func (t *Table) unlock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	released, err := t.engine.Unlock(ctx, s, string(args[1]), string(args[2]))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, released)
}
