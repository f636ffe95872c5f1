package engine

import (
	"fmt"
	"strings"
	"testing"
)

// mutant is a way to break the scripts, or KS.GUARD (then without a text), and which of the tests must notice: random histories, or, for what
// they can't see (who is rung, what an ACL refuses), the scenarios of scripts_test.go, or those without a
// channel as in refusals_test.go.
type mutant struct {
	name     string
	only     *script // nil: all that have the text
	old, new string
	caught   func(*backend, map[*script]*script) error
}

var mutants = []mutant{
	// whose it is
	{"a leave that ignores whose grant it is", nil, "s.st ~= 'f' and s.by.attempt == attempt then", "s.st ~= 'f' then", byHistories},
	{"a leave that ignores whose place it is", nil, "p.attempt == attempt and over == p.kept and", "over == p.kept and", byHistories},
	{
		"a renewal that ignores whose grant it is", renewScript,
		"s.by.attempt ~= attempt", "false", byHistories,
	},
	{"re-asks that take over", nil, "if a.elder and not a.first then", "if false then", byHistories},
	{
		"an unlock that ignores whose lock it is", nil,
		"if s.owner ~= ARGV[7] then return { 0, rings } end", "if not s.owner then return { 0, rings } end", byHistories,
	},
	{
		"an extension that ignores whose lock it is", nil,
		"if s.owner ~= token or (s.tok == token and s.st ~= 'h') then", "if not s.owner then", byHistories,
	},
	{"an extension of what was only handed over", nil, "if s.owner ~= token or (s.tok == token and s.st ~= 'h') then", "if s.owner ~= token then", byHistories},
	{"an extension of a connection's lock", nil, "if s.session then return { 1, rings } end", "", byHistories},
	{"a renewal that shortens", nil, "if call('PTTL', LOCK) < lease then", "if true then", byHistories},
	{
		"a renewal that brings back", renewScript, "  if s.owner ~= token then\n",
		"  if not s.owner then call('SET', LOCK, token, 'PX', ARGV[9], 'NX') elseif s.owner ~= token then\n", byHistories,
	},

	// the line
	{"newcomers that barge in", nil, "if not owner or owner.token == a.token then return take", "if true then return take", byHistories},
	{"late comers at the front", nil, "call('RPUSH', QUEUE, a.token)", "call('LPUSH', QUEUE, a.token)", byHistories},
	{"leaves that forget the list", nil, "      call('LREM', QUEUE, 1, token)", "", byHistories},
	{"all count as reachable", nil, "local function can_be_rung(s, p)", "local function can_be_rung(s, p) do return true end", byHistories},
	{
		"PUBLISH's own count", nil, "tonumber(call('PUBSUB', 'NUMSUB', channel)[2]) > 0", "call('PUBLISH', channel, 'r 0 0 0 x:n') > 0",
		byHistories,
	},
	{
		"who can't be rung loses his place", nil, "marks[#marks + 1] = { token, p.id .. '|' .. int(s.now) }",
		"drops[#drops + 1] = token", byHistories,
	},
	{"kept places that reserve the lock", nil, "if p.failed or p.kept or s.suspects", "if p.failed or s.suspects", byHistories},
	{"kept places that are lost when passed by", nil, "if s.now - p.since > KEEP then", "if true then", byHistories},
	{"places that are kept for ever", nil, "if s.now - p.since > KEEP then", "if false then", byHistories},
	{"places that are not kept", nil, "if keep then", "if false then", byHistories},
	{"places that end before they were kept long enough", nil, "over == p.kept and", "", byHistories},
	{"a place that is not kept for who was handed the lock", nil, "if back then", "if false then", byHistories},
	{"a deleted line that only the first enters anew", nil, "  elseif not a.listed then", "  elseif not a.place or a.length == 0 then", byScenarios},

	// handing over
	{"who did not claim is put back more than once", leaveScript, "if clear or s.lapsed then forget_record()", "if clear then forget_record()", byScenarios},
	{"a hand-off with a whole lease", nil, "p.instance and CLAIM or tonumber(LOCKTTL)", "tonumber(LOCKTTL)", byHistories},
	{"no suspicion of who did not claim", nil, "if s.lapsed and s.by.instance ~= INSTANCE then", "if false then", byHistories},
	{"who did not claim is not put back", nil, "if s.lapsed then put_back(", "if false then put_back(", byHistories},
	{"claims without a new fence", nil, "if s.tok ~= a.token or s.st ~= 'h' then fence", "if false then fence", byHistories},
	{"fences that are the clock's alone", nil, "math.max(s.n + 1, s.us, ", "math.max(s.us, ", byHistories},
	{"fences that ignore what the proxy has seen", nil, "s.us, tonumber(ARGV[12]) + 1)", "s.us)", byHistories},
	{"an unlock that hands the lock to who gives it back", releaseScript, "stands and { [s.owner] = true }", "nil", byScenarios},
	{"an unlock that leaves its own place in line", releaseScript, "if stands then drops[1] = s.owner end", "", byScenarios},
	{"an answer that hands the lock to who gives it", nil, "elseif p and waiter == s.owner then", "elseif false then", byScenarios},
	{"the new owner is not rung", releaseScript, "ring(owner, owner and owner.token)", "", byScenarios},
	{"the new first in line is not rung", releaseScript, "ring(head, head and head.token)", "", byScenarios},
	{"a shorter lease is not told", extendScript, "ring(head, head and head.token)", "", byScenarios},
	{"KeySmith's processes are not told", nil, "if owner then out[1] = { LOCKNOTIF, owner } end", "", byScenarios},
	{"the end by its token is not written down", nil, "if elsewhere(s) then note_end(s, '') end", "", byHistories},
	{"the end by its token is not told", nil, "  dismiss(s)\n", "", byHistories},
	{"telling some before another is refused", nil, "if redis.acl_check_cmd then\n    for _, message", "if false then\n    for _, message", byChannels},
	{
		"writing before telling", releaseScript, "tell(owner and owner.token)\n  pass_on(s, owner)",
		"pass_on(s, owner)\n  tell(owner and owner.token)", byChannels,
	},

	// waiting for the end
	{"callers of KS.WAIT are not told", nil, "for instance in string.gmatch(s.watching or '', '%w+') do", "for instance in string.gmatch('', '%w+') do", byHistories},
	{"an unlock that does not tell them", releaseScript, "  ended(s)\n", "", byHistories},
	{"a leave that does not tell them", leaveScript, "  if free then ended(s) end\n", "", byHistories},
	{"a resolve that does not tell them", resolveScript, "  ended(s)\n", "", byHistories},
	{"a rejection that does not tell them", rejectScript, "  ended(s)\n", "", byHistories},
	{"an ask that does not tell them of a lease that has run out", askLockScript, "  ended(s)\n", "", byHistories},
	{"who finds a value does not tell them", askMemoScript, "      ended(s)\n", "", byHistories},
	{"observers that are not noted", observeScript, "call('HSET', FENCE, 'w', (s.watching or '') .. ' ' .. INSTANCE)", "", byHistories},
	{"observers of one proxy only", observeScript, "(s.watching or '') .. ' ' .. INSTANCE", "INSTANCE", byHistories},
	{"observers that are told for ever", nil, "if s.watching then call('HDEL', FENCE, 'w') end", "", byHistories},
	{"a hand-over that is observed with the last fence", observeScript, "s.tok == s.owner and s.st == 'h' and int(s.n) or ''", "int(s.n)", byHistories},
	{"a stranger's lock that is observed with our fence", observeScript, "s.tok == s.owner and s.st == 'h'", "s.st == 'h'", byHistories},
	{"observers that keep a fence for ever", observeScript, "call('PEXPIRE', FENCE, int(math.max(kept, DAY + SLACK)))", "", byHistories},

	// short ways
	{"newcomers who pass a line", askLockScript, "owner == false and call('EXISTS', QUEUE, WAITING) == 0", "owner == false", byHistories},
	{"a short way past suspicion", askLockScript, "f and not f.err and not f[3] and tonumber", "f and not f.err and tonumber", byScenarios},
	{"a short way past what was not claimed", askLockScript, "last and nobody and f[2] ~= 'p' and", "last and nobody and", byHistories},
	{"a short way past KS.WAIT callers", nil, "and not f[3] and not f[4] and tonumber(f[1] or '')", "and not f[3] and tonumber(f[1] or '')", byHistories},
	{"one who waits stands in line twice", askLockScript, " and call('HGET', WAITING, TOKEN) == false", "", byHistories},
	{"one who stands in line without a place", askLockScript, "        call('HSET', WAITING, TOKEN, place)\n", "", byHistories},
	{"a lock for who was named, whoever is first", releaseScript, "places = line[1] == next and", "places =", byHistories},
	{"a lock for who was named by a place that he has not", releaseScript, "places and places[1] == place then", "places and places[1] then", byHistories},
	{"a direct hand-over that leaves the place", releaseScript, "          call('LREM', QUEUE, 1, next)\n", "", byHistories},
	{"a direct hand-over for the releaser's lease", releaseScript, "call('SET', LOCK, next, 'PX', ARGV[10])", "call('SET', LOCK, next, 'PX', 2000)", byHistories},
	{"a direct hand-over that tells no one who is first", releaseScript, "number and { number .. ' ' .. head } or {}", "{}", byHistories},
	{"a direct hand-over before one who can't be rung", releaseScript, "(call('PUBSUB', 'NUMSUB', inbox)[2] or 0) ~= 0 and", "", byHistories},
	{"a connection of another proxy is not told", releaseScript, "string.sub(f[6] or '', 1, 1) == 'l' or", "true or", byHistories},
	{"direct fences that fall behind what was seen", releaseScript, "short.fence(last, us, ARGV[12])", "short.fence(last, us, 0)", byHistories},
	{"a short way whose fence nobody clears away", askLockScript, "last == 0 or ", "", byHistories},

	// several locks
	{"a confirmation that ignores whose grants they are", confirmScript, " or s.by.attempt ~= INSTANCE .. ':' .. ARGV[8 + 2 * i]", "", byHistories},
	{"a confirmation that ignores whose locks they are", confirmScript, "s.owner ~= token or s.tok ~= token", "s.tok ~= token", byHistories},
	{"a confirmation that looks at the first only", confirmScript, "return { 0, {} }", "if i == 1 then return { 0, {} } end", byHistories},
	{"a confirmation that begins the first lease only", confirmScript, "call('PEXPIRE', LOCK, int(lease))", "if i == 1 then call('PEXPIRE', LOCK, int(lease)) end", byHistories},
	{"a confirmation that writes before it has looked at all", confirmScript, "states[i], told[i] = s, rings", "states[i], told[i] = s, rings call('PEXPIRE', LOCK, int(lease))", byHistories},
	{"a confirmation that leaves them a connection's", confirmScript, "record(token, s.att, 'h', lease, s.n, ARGV[9])", "record(token, s.att, 'h', lease, s.n, s.own)", byHistories},
	{"a confirmation that does not tell of shorter leases", confirmScript, "if call('PTTL', LOCK) > lease then", "if false then", byHistories},
	{"a confirmation that tells the first, who may be dead", confirmScript, "local head = pick(s, walk())", "local t = call('LINDEX', QUEUE, 0) local head = t and parse(call('HGET', WAITING, t)) if head then head.token = t end", byHistories},
	{"ends of which the last only is kept", nil, "s.by.attempt .. how .. ',' .. (s.ends or '')", "s.by.attempt .. how .. ','", byHistories},
	{"a confirmation that mistakes the names", confirmScript, "NAME = ARGV[9 + 2 * i]", "", byHistories},
	{"a renewal of what is a lease by now", renewScript, " or not s.session", "", byHistories},

	{
		"a short renewal for another attempt", renewScript,
		"string.sub(f[2] or '', 2) == ':' .. ARGV[3] .. ':' .. ARGV[8]", "true", byHistories,
	},
	{"a short renewal of a lease", renewScript, "and string.sub(f[3] or '', 1, 1) == 's' then", "then", byHistories},
	{"a short renewal that shortens", renewScript, "(left >= tonumber(LEASE) or call('PEXPIRE', LOCK, LEASE) == 1)", "call('PEXPIRE', LOCK, LEASE) == 1", byHistories},

	// guarded commands
	{"a guard that does not watch the lock", nil, "", "", withoutSending("WATCH")},
	{"a guard that does not look at the lock", nil, "", "", withoutSending("GET")},
	{"a guard without a transaction", nil, "", "", withoutSending("MULTI")},

	// promises
	{"a value without a promise", resolveScript, "if not promised(s, token) then return { 0, rings, 0 } end", "", byHistories},
	{"a lock that counts as a promise", nil, "(s.by.kind == 'l' or s.st == 'p')", "s.st == 'p'", byHistories},
	{
		"a rejection that strikes nobody", rejectScript, "local owner, instances = strike(s)",
		"local owner, instances = pick(s, walk()), {}", byHistories,
	},
	{"a resolve that strikes everyone", nil, "if p and p.kind == 'm' then", "if p then", byHistories},
	{"forgetting that leaves the promise", forgetScript, "if s.owner and s.owner == s.tok", "if false and s.owner == s.tok", byHistories},
	{"forgetting that revokes a lock", forgetScript, " and s.by.kind == 'm' then", " then", byHistories},
	{"forgetting that revokes what was only handed over", forgetScript, " and s.st == 'h'", "", byHistories},
	{"forgetting that leaves the value", forgetScript, "gone[1] = KEYS[5]", "gone[1] = KEYS[6]", byHistories},
	{"forgetting that leaves the rejection", forgetScript, "gone[#gone + 1] = KEYS[6]", "gone[#gone + 1] = LOCK .. 'x'", byHistories},
	{"forgetting that hands the promise to nobody", forgetScript, "pass_on(s, owner)", "pass_on(s)", byHistories},
	{"a revocation that is not published", forgetScript, ", { ARGV[7], s.tok })", ")", byHistories},
	{"a revocation that is taken for a loss", forgetScript, "note_end(s, ' revoked')", "note_end(s, '')", byScenarios},
	{"a value that comes before its promise is claimed", nil, "(s.by.kind == 'l' or s.st == 'p')", "s.by.kind == 'l'", byHistories},
	{"forgetting that leaves the stale copy", forgetScript, "gone[#gone + 1] = KEYS[7]", "gone[#gone + 1] = LOCK .. 'x'", byHistories},
	{"a copy that outlives the next value", resolveScript, "call('DEL', KEYS[6], KEYS[7])", "call('DEL', KEYS[6])", byHistories},
	{"a copy that outlives a rejection", rejectScript, "if kind == 'm' then call('DEL', KEYS[7]) end", "", byScenarios},
	{"a rejection of those who wait that ends the copy", rejectScript, "if kind == 'm' then call('DEL', KEYS[7]) end", "call('DEL', KEYS[7])", byScenarios},
	{"a deleted value that is served in spite of who has noticed", askMemoScript, "if deleted then call('DEL', KEYS[7]) end", "", byScenarios},
	{"a deleted value that its proxy does not notice", valueScript, "other = now() < tonumber(least)", "", byScenarios},
	{"another's value that is not noticed", valueScript, "other = left < 0 or", "other = false and", byScenarios},
	{"a look that drops every copy", valueScript, "other = left < 0 or", "other = true or", byHistories},
	{"a stale value for who should make the next", askMemoScript, "if s.owner and s.owner ~= token then", "if s.owner ~= token then", byHistories},
	{"a stale value that leaves its reader in line", askMemoScript, "    served(s)\n    return { 'stale'", "    return { 'stale'", byScenarios},
	{"a stale value for patient ones only", nil, " or impatient,", ",", byScenarios},
	{"a copy that is served for ever", resolveScript, "int(tonumber(ttl) + tonumber(ARGV[14]))", "'900000000'", byHistories},
	{"a rejection that newcomers are told", nil, "kind == 'o' and since and since <= tonumber(fence)", "kind == 'o'", byHistories},
	{"a rejection that is told to who comes during the hand-off after it", nil, "return int(s.n + 1)", "return int(s.n)", byHistories},
	{"a rejection that those are not told who waited", nil, "kind == 'o' and since and since <= tonumber(fence)", "false", byHistories},
	{"a value that outlives its error", resolveScript, "call('DEL', KEYS[6], KEYS[7])", "call('DEL', KEYS[7])", byScenarios},
	{"waiters that are promoted beside a value", askMemoScript, "local value = call('GET', KEYS[5])", "local value = false", byHistories},
	{"a value that does not end", resolveScript, "call('SET', KEYS[5], value, 'PX', ttl)", "call('SET', KEYS[5], value)", byHistories},
	{"a rejection that is kept too long", rejectScript, "ttl == '' and ARGV[10] or ttl)", "60000)", byHistories},
	{"a line that nobody clears away", nil, "call('PEXPIRE', QUEUE, QUEUETTL)", "", byHistories},
	{"a fence that nobody clears away", nil, "  call('PEXPIRE', FENCE, fence_ttl(lease))\nend", "end", byHistories},
	{"who finds the value keeps his place", nil, "\n  served(s)\n", "\n", byHistories},
	{"notif peers are not told", resolveScript, "{ ARGV[10], value }", "nil", byScenarios},
}

// everyScript is what mutants are looked for in.
var everyScript = []*script{
	askLockScript, askMemoScript, releaseScript, leaveScript, resolveScript, rejectScript, forgetScript, extendScript, renewScript, statusScript,
	observeScript, confirmScript, valueScript,
}

func (m mutant) breakIt() map[*script]*script {
	broken := map[*script]*script{}
	for _, s := range everyScript {
		if source := strings.ReplaceAll(s.source, m.old, m.new); m.old != "" && source != s.source && (m.only == nil || m.only == s) {
			broken[s] = newScript(s.name, source)
		}
	}
	return broken
}

func TestBrokenScriptsAreNoticed(t *testing.T) {
	b := onRedis(t)
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			broken := m.breakIt()
			if m.old != "" && len(broken) == 0 {
				t.Fatal("no script has the text that is to be replaced")
			}
			err := m.caught(b, broken)
			if err == nil {
				t.Fatal("nothing was noticed")
			}
			t.Log(err)
		})
	}
}

// mostSeeds is how many histories are played in which a broken script may show.
const mostSeeds = 500

func byHistories(b *backend, broken map[*script]*script) error {
	for seed := range uint64(mostSeeds) {
		if _, err := playOps(b, broken, seed, newOps(seed, historySteps)); err != nil {
			return fmt.Errorf("histories, seed %d: %w", seed, err)
		}
	}
	return nil
}

// withoutSending plays histories in which a command of KS.GUARD does not reach Redis.
func withoutSending(command string) func(*backend, map[*script]*script) error {
	return func(b *backend, _ map[*script]*script) error {
		for seed := range uint64(mostSeeds) {
			if isJoint(seed) {
				continue
			}
			h := newHistory(b, nil, "x:n")
			h.st.unsent = command
			if err := h.play(newOps(seed, historySteps)); err != nil {
				return fmt.Errorf("histories, seed %d: %w", seed, err)
			}
		}
		return nil
	}
}

func byScenarios(b *backend, broken map[*script]*script) error {
	for _, sc := range scenarios {
		if err := playScenario(b, broken, sc.acts, sc.state); err != nil {
			return fmt.Errorf("scenario %q: %w", sc.name, err)
		}
	}
	return nil
}

func playScenario(b *backend, broken map[*script]*script, acts []act, state string) error {
	b.do("FLUSHALL")
	st := newStage(b.t, b)
	defer st.close()
	st.broken = broken
	for _, a := range acts {
		if got := st.play(a.step); got != a.want {
			return fmt.Errorf("%s: %q, not %q", a.step, got, a.want)
		}
	}
	if got := st.state(); got != state {
		return fmt.Errorf("in the end %s, not %s", got, state)
	}
	return nil
}

// byChannels plays the scenarios as a caller who may not publish the name of a new owner.
func byChannels(b *backend, broken map[*script]*script) error {
	defer b.do("ACL", "DELUSER", "caller")
	for _, sc := range scenarios {
		if err := playWithoutChannel(b, broken, sc.acts); err != nil {
			return fmt.Errorf("scenario %q without a channel: %w", sc.name, err)
		}
	}
	return nil
}

func playWithoutChannel(b *backend, broken map[*script]*script, acts []act) error {
	b.do("FLUSHALL")
	st := newStage(b.t, b)
	defer st.close()
	st.broken = broken
	b.restricted(st, append(allow(callerCommands, ""), "resetchannels", "&x/locknotif:*", "&x/notif:*")...)
	for _, a := range acts {
		before := b.snapshot()
		got := st.play(a.step)
		if !strings.HasPrefix(got, "error ") {
			continue
		}
		if after := b.snapshot(); after != before {
			return fmt.Errorf("%s: %s, but it wrote", a.step, got)
		}
		if strings.Contains(got, ", ") {
			return fmt.Errorf("%s: it was refused, and told some: %s", a.step, got)
		}
		return nil
	}
	return nil
}
