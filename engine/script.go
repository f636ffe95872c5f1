package engine

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lua/line.lua
	lineLua string
	//go:embed lua/short.lua
	shortLua string
	//go:embed lua/short_ask.lua
	shortAskLua string
	//go:embed lua/short_release.lua
	shortReleaseLua string
	//go:embed lua/short_renew.lua
	shortRenewLua string
	//go:embed lua/ask.lua
	askLua string
	//go:embed lua/ask_lock.lua
	askLockLua string
	//go:embed lua/ask_memo.lua
	askMemoLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/leave.lua
	leaveLua string
	//go:embed lua/answer.lua
	answerLua string
	//go:embed lua/resolve.lua
	resolveLua string
	//go:embed lua/reject.lua
	rejectLua string
	//go:embed lua/forget.lua
	forgetLua string
	//go:embed lua/extend.lua
	extendLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/status.lua
	statusLua string
	//go:embed lua/observe.lua
	observeLua string
	//go:embed lua/confirm.lua
	confirmLua string
	//go:embed lua/value.lua
	valueLua string
	//go:embed lua/agree.lua
	agreeLua string
)

var (
	askLockScript = newScript("ask lock", shortLua, shortAskLua, lineLua, askLua, askLockLua)
	askMemoScript = newScript("ask memo", lineLua, askLua, askMemoLua)
	releaseScript = newScript("release", shortLua, shortReleaseLua, lineLua, releaseLua)
	leaveScript   = newScript("leave", lineLua, leaveLua)
	resolveScript = newScript("resolve", lineLua, answerLua, resolveLua)
	rejectScript  = newScript("reject", lineLua, answerLua, rejectLua)
	forgetScript  = newScript("forget", lineLua, forgetLua)
	extendScript  = newScript("extend", lineLua, extendLua)
	renewScript   = newScript("renew", shortLua, shortRenewLua, lineLua, renewLua)
	statusScript  = newScript("status", lineLua, statusLua)
	observeScript = newScript("observe", lineLua, observeLua)
	confirmScript = newScript("confirm", lineLua, confirmLua)
	valueScript   = newScript("value", valueLua)
	agreeScript   = newScript("agree", agreeLua)
)

// script is one operation, by name for errors, by sha for Redis.
type script struct{ name, source, sha string }

func newScript(name string, parts ...string) *script {
	source := strings.Join(parts, "\n")
	sum := sha1.Sum([]byte(source))
	return &script{name: name, source: source, sha: hex.EncodeToString(sum[:])}
}

// doer is what a script runs on: a caller's Session or the engine's own connection.
type doer interface {
	Do(ctx context.Context, args ...any) (any, error)
}

// run asks by EVALSHA, and by EVAL where Redis has not seen the script. An error reply is a RedisError
// that keeps Redis's words; after any other error the script may or may not have run.
func (s *script) run(ctx context.Context, d doer, keys []string, args []any) (any, error) {
	reply, err := d.Do(ctx, s.command("EVALSHA", s.sha, keys, args)...)
	if isNoScript(err) {
		reply, err = d.Do(ctx, s.command("EVAL", s.source, keys, args)...)
	}
	var refused RedisError
	if errors.As(err, &refused) {
		return nil, asRedisError(string(refused))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return reply, nil
}

func (s *script) command(verb, body string, keys []string, args []any) []any {
	cmd := make([]any, 0, 3+len(keys)+len(args))
	cmd = append(cmd, verb, body, len(keys))
	for _, key := range keys {
		cmd = append(cmd, key)
	}
	return append(cmd, args...)
}

func isNoScript(err error) bool {
	var refused RedisError
	return errors.As(err, &refused) && strings.HasPrefix(string(refused), "NOSCRIPT")
}

// ownConn runs commands on the engine's own go-redis client.
type ownConn struct{ client *redis.Client }

func (o ownConn) Do(ctx context.Context, args ...any) (any, error) {
	reply, err := o.client.Do(ctx, args...).Result()
	return ownReply(reply, err)
}

// ownClient is the engine's own client, which may be replaced by a new one.
type ownClient struct {
	make func() *redis.Client
	now  atomic.Pointer[redis.Client]
}

func newOwnClient(create func() *redis.Client) *ownClient {
	o := &ownClient{make: create}
	o.now.Store(create())
	return o
}

// conn is what to run the next commands on.
func (o *ownClient) conn() ownConn { return ownConn{o.now.Load()} }

// renew replaces the client, and with it all connections, and returns the old one, to be closed.
func (o *ownClient) renew() *redis.Client { return o.now.Swap(o.make()) }

// scriptCall are the keys and arguments of one call of a script, result its reply.
type (
	scriptCall struct {
		keys []string
		args []any
	}
	scriptResult struct {
		reply any
		err   error
	}
)

// runAll runs a script once for each of calls, in one pipeline.
func (o ownConn) runAll(ctx context.Context, s *script, calls []scriptCall) []scriptResult {
	pipe := o.client.Pipeline()
	sent := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		sent[i] = pipe.Do(ctx, s.command("EVALSHA", s.sha, c.keys, c.args)...)
	}
	_, _ = pipe.Exec(ctx) // each result has its error
	results := make([]scriptResult, len(calls))
	for i, c := range calls {
		reply, err := ownReply(sent[i].Result())
		if isNoScript(err) { // the first of them makes Redis know it; the others are asked anew as well
			reply, err = s.run(ctx, o, c.keys, c.args)
		}
		results[i] = scriptResult{reply, err}
	}
	return results
}

// ownReply turns go-redis's errors into the Session's: nil replies are no errors, Redis's errors are
// RedisErrors.
func ownReply(reply any, err error) (any, error) {
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	var refused redis.Error
	if errors.As(err, &refused) {
		return nil, RedisError(refused.Error())
	}
	return reply, err
}
