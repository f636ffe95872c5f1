package commands

import (
	"bytes"
	"context"
	"strings"

	"github.com/tidwall/redcon"
)

// unguarded are the commands that KS.GUARD does not run: they change the connection, or answer other than
// once. Names that Redis has renamed are not known.
var unguarded = map[string]bool{
	"select": true, "auth": true, "hello": true, "reset": true, "quit": true, "client": true,
	"subscribe": true, "psubscribe": true, "ssubscribe": true,
	"unsubscribe": true, "punsubscribe": true, "sunsubscribe": true,
	"multi": true, "exec": true, "discard": true, "watch": true, "unwatch": true,
	"monitor": true, "sync": true, "psync": true, "replconf": true, "shutdown": true,
}

// longestUnguarded is the length of the longest of them.
const longestUnguarded = len("punsubscribe")

// guardable reports whether KS.GUARD runs the command called name. Redis folds the case of ASCII only.
func guardable(name []byte) bool {
	if len(name) >= 3 && is(name[:3], "KS.") {
		return false
	}
	if len(name) > longestUnguarded || bytes.IndexFunc(name, func(r rune) bool { return r >= 0x80 }) >= 0 {
		return true
	}
	return !unguarded[strings.ToLower(string(name))]
}

// guard: KS.GUARD name token command [arg ...]; what the command replies.
func (t *Table) guard(ctx context.Context, s Session, args [][]byte, dst []byte) []byte {
	if !guardable(args[3]) {
		return redcon.AppendError(dst, "ERR KS.GUARD can't run '"+lineBreaks.Replace(string(args[3]))+
			"': it changes the connection, or answers other than once")
	}
	reply, err := t.engine.Guard(ctx, s, string(args[1]), string(args[2]), args[3:])
	if err != nil {
		return appendFailure(dst, s, err)
	}
	if len(dst) == 0 {
		return reply // which may be large
	}
	return append(dst, reply...)
}
