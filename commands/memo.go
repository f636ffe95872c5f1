package commands

import (
	"context"

	"github.com/tidwall/redcon"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

var memoOptions = accepted{wait: true, hold: true}

// memo: KS.MEMO name [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]; array of "value" or "stale" and the value
// or "generate" and the token, nil, or a MEMOERR.
func (t *Table) memo(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.memo", args[2:], memoOptions)
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	m, err := t.engine.Memo(ctx, s, t.request(args[1], o))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	if m.Token != "" {
		return appendPair(dst, "generate", m.Token)
	}
	if m.Stale {
		return appendPair(dst, "stale", m.Value)
	}
	if m.Shared == nil || dst != nil {
		return appendPair(dst, "value", m.Value)
	}
	return m.Shared.Reply(func() []byte {
		return appendPair(make([]byte, 0, len(m.Value)+64), "value", m.Value)
	})
}

func appendPair(dst []byte, first, second string) []byte {
	return redcon.AppendBulkString(redcon.AppendBulkString(redcon.AppendArray(dst, 2), first), second)
}

// resolve: KS.RESOLVE name token value [PX ms | EX s] [STALE ms]; 1 or 0.
func (t *Table) resolve(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.resolve", args[4:], accepted{stale: true})
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	stored, err := t.engine.Resolve(ctx, s, engine.Resolution{
		Name: string(args[1]), Token: string(args[2]), Value: string(args[3]), TTL: o.expire, Stale: o.stale,
	})
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, stored)
}

// longestMessage bounds the message of KS.REJECT, in bytes.
const longestMessage = 4 << 10

// reject: KS.REJECT name token message [PX ms | EX s]; 1 or 0.
func (t *Table) reject(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	o, p := parseOptions("ks.reject", args[4:], accepted{})
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	if len(args[3]) > longestMessage {
		return redcon.AppendError(dst, "ERR message is longer than 4096 bytes")
	}
	rejected, err := t.engine.Reject(ctx, s, engine.Rejection{
		Name: string(args[1]), Token: string(args[2]), Message: lineBreaks.Replace(string(args[3])), TTL: o.expire,
	})
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, rejected)
}

// forget: KS.FORGET name; 1 or 0.
func (t *Table) forget(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	something, err := t.engine.Forget(ctx, s, string(args[1]))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	return appendBool(dst, something)
}

// help: KS.HELP; array of lines, as Redis's own HELP subcommands have them.
func (t *Table) help(_ context.Context, _ Session, _ [][]byte, dst []byte) []byte {
	table := commands()
	dst = redcon.AppendArray(dst, 2*len(table))
	for _, c := range table {
		dst = redcon.AppendBulkString(dst, c.usage)
		dst = redcon.AppendBulkString(dst, "    "+c.summary)
	}
	return dst
}
