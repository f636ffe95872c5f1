package commands

import (
	"context"

	"github.com/tidwall/redcon"
)

// mostNames bounds numkeys.
const mostNames = 128

// parseNames reads numkeys and as many names from args, which begin behind the command's name, and returns
// what follows them. As in Redis a name too few is a syntax error; so is one given twice.
func parseNames(args [][]byte) (names []string, rest [][]byte, p problem) {
	n, ok := parseInteger(args[0])
	switch {
	case !ok:
		return nil, nil, notAnInteger
	case n <= 0:
		return nil, nil, "ERR numkeys should be greater than 0"
	case n > mostNames:
		return nil, nil, "ERR numkeys should be at most 128"
	case n > int64(len(args)-1):
		return nil, nil, syntaxError
	}
	met := make(map[string]bool, n)
	for _, arg := range args[1 : n+1] {
		if met[string(arg)] {
			return nil, nil, syntaxError
		}
		met[string(arg)] = true
		names = append(names, string(arg))
	}
	return names, args[n+1:], noProblem
}

// mlock: KS.MLOCK numkeys name [name ...] [PX ms | EX s | SESSION] [WAIT ms | NOWAIT] [TOKEN token]; array of
// the token and a fence for each name, or nil.
func (t *Table) mlock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	names, rest, p := parseNames(args[1:])
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	o, p := parseOptions("ks.mlock", rest, accepted{wait: true, hold: true})
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	grant, err := t.engine.MLock(ctx, s, names, t.request(nil, o))
	if err != nil {
		return appendFailure(dst, s, err)
	}
	dst = redcon.AppendArray(dst, 1+len(grant.Fences))
	dst = redcon.AppendBulkString(dst, grant.Token)
	for _, fence := range grant.Fences {
		dst = redcon.AppendInt(dst, fence)
	}
	return dst
}

// munlock: KS.MUNLOCK numkeys name [name ...] token; how many were released. An error ends it where it stands.
func (t *Table) munlock(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	names, rest, p := parseNames(args[1:])
	if p == noProblem && len(rest) != 1 {
		p = syntaxError
	}
	if p != noProblem {
		return redcon.AppendError(dst, string(p))
	}
	var released int64
	for _, name := range names {
		if len(rest[0]) == 0 {
			break // nobody's token
		}
		ok, err := t.engine.Unlock(ctx, s, name, string(rest[0]))
		if err != nil {
			return appendFailure(dst, s, err)
		}
		if ok {
			released++
		}
	}
	return redcon.AppendInt(dst, released)
}
