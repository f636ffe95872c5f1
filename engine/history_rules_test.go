package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// view is what Redis holds for the name.
type view struct {
	owner             string
	left              int64    // ms
	ttls              [6]int64 // of queue, places, fence, value, failure, stale copy
	line              []string
	places            map[string]string
	n                 int64
	tok, att, st, own string
	suspects          string
	watching          string // instances with KS.WAIT callers
	value, failure    string
	hasValue          bool
	copied            bool // there is a stale copy
}

var look = newScript("look", `
local c, ttls = redis.call, {}
for i, key in ipairs(KEYS) do ttls[i] = c('PTTL', key) end
return { c('GET', KEYS[1]), c('LRANGE', KEYS[2], 0, -1), c('HGETALL', KEYS[3]),
  c('HMGET', KEYS[4], 'n', 'tok', 'att', 'st', 'own', 'x', 'w'), c('GET', KEYS[5]), c('GET', KEYS[6]), ttls, c('EXISTS', KEYS[7]) }`)

func (h *history) look() view {
	reply, err := look.run(context.Background(), ownConn{h.st.b.c}, h.st.keys.ofMemo(), nil)
	if err != nil {
		h.st.t.Fatal(err)
	}
	text := func(x any) string { s, _ := x.(string); return s }
	list := func(x any) (out []string) {
		for _, e := range x.([]any) {
			out = append(out, text(e))
		}
		return out
	}
	all := reply.([]any)
	v := view{owner: text(all[0]), line: list(all[1]), places: map[string]string{}, value: text(all[4]), failure: text(all[5])}
	for pairs := list(all[2]); len(pairs) > 0; pairs = pairs[2:] {
		v.places[pairs[0]] = pairs[1]
	}
	f := list(all[3])
	v.n, _ = strconv.ParseInt(f[0], 10, 64)
	v.tok, v.att, v.st, v.own, v.suspects, v.watching = f[1], f[2], f[3], f[4], f[5], strings.TrimSpace(f[6])
	v.hasValue, v.copied = all[4] != nil, all[7] == int64(1)
	ttls := all[6].([]any)
	v.left = ttls[0].(int64)
	for i := range v.ttls {
		v.ttls[i] = ttls[i+1].(int64)
	}
	return v
}

func (v view) String() string {
	waiting := make([]string, len(v.line))
	for i, token := range v.line {
		waiting[i] = token + "=" + v.places[token]
	}
	return fmt.Sprintf("%s %v {%s %s %s %d %s} %q %q %q", v.owner, waiting, v.tok, v.att, v.st, v.n, v.suspects, v.watching, v.value, v.failure)
}

// lapsed: the lock was handed to tok, who did not claim it.
func (v view) lapsed() bool {
	return v.st == "p" && v.owner != v.tok && parseSpot(v.att).instance != ""
}

// torn: the line is not what scripts leave behind, because a stranger deleted half of it.
func (v view) torn() bool {
	met := map[string]bool{}
	for _, token := range v.line {
		if met[token] {
			return true
		}
		met[token] = true
	}
	for token := range v.places {
		if !met[token] {
			return true
		}
	}
	return met[v.tok] && v.tok != ""
}

// repeated is how often tokens are in the list that are in it already: a KeySmith process that asks again. When its
// place has gone a script that comes by takes one of them out.
func (v view) repeated() (n int) {
	met := map[string]bool{}
	for _, token := range v.line {
		if met[token] {
			n++
		}
		met[token] = true
	}
	return n
}

// crowded: the list has tokens that nobody stands for, so that its length does not tell whether others are
// missing.
func (v view) crowded() bool {
	met := map[string]bool{}
	for _, token := range v.line {
		if _, placed := v.places[token]; met[token] || !placed {
			return true
		}
		met[token] = true
	}
	return false
}

// spot is a place in line, as line.lua has it.
type spot struct {
	id, kind, instance string
	failed, kept       bool
	since              int64
}

func parseSpot(place string) spot {
	id, mark, _ := strings.Cut(place, "|")
	p := spot{id: id, failed: strings.HasPrefix(mark, "!"), kept: strings.HasPrefix(mark, "~")}
	p.since, _ = strconv.ParseInt(strings.TrimLeft(mark, "!~"), 10, 64)
	if f := strings.Split(id, ":"); len(f) == 3 {
		p.kind, p.instance = f[0], f[1]
	}
	return p
}

// move is what a script may do to the line, besides what the clock does.
type move struct {
	by        string          // the instance that runs it
	asker     string          // is there, whatever its marks say
	stays     bool            // the asker waits
	takes     bool            // the asker has the lock
	ends      bool            // the hold, be it unclaimed, ends
	gone      map[string]bool // leave; true: their place is kept
	back      string          // is put back at the front, kept
	word      string          // with which they are told
	dismissed string          // attempt of a connection whose hold its token ends elsewhere
	struck    bool            // all memo callers leave
	excused   bool            // who did not claim is not put back
	direct    *played         // has the lock with all of his lease, if anyone is handed it
	onlyReads bool            // nothing changes, but what renewals change
}

// reachable: a bell for the place would be heard, and by one who claims.
func (h *history) reachable(before view, p spot, by string) bool {
	if p.instance == "" {
		return h.net.listens
	}
	if p.failed || p.kept {
		return false
	}
	if p.instance == by {
		return true
	}
	if before.lapsed() && parseSpot(before.att).instance == p.instance {
		return false
	}
	if strings.Contains(" "+before.suspects, " "+p.instance+"@") {
		return false
	}
	for _, proxy := range h.proxies {
		if proxy.instance == p.instance {
			return !proxy.cut
		}
	}
	return false
}

// next is who gets a free lock: the first who can be rung.
func (h *history) next(before view, m move) string {
	for _, token := range before.line {
		place, ok := before.places[token]
		_, leaves := m.gone[token]
		p := parseSpot(place)
		if !ok || leaves || m.struck && p.kind == "m" {
			continue
		}
		if token == m.asker || h.reachable(before, p, m.by) {
			return token
		}
	}
	return ""
}

// judge looks whether a script did with lock and line what m says, and no more.
func (h *history) judge(before view, m move, idle bool) error {
	after := h.now
	if idle || m.onlyReads {
		if after.String() != before.String() {
			return fmt.Errorf("nothing should have changed, but there was %v", before)
		}
		return nil
	}
	delete(h.burnt, m.by)
	for i, ttl := range append(after.ttls[:3:3], after.left) {
		if was := append(before.ttls[:3:3], before.left)[i]; ttl == -1 && was != -1 {
			return fmt.Errorf("of queue, places, fence and lock number %d has lost its TTL", i+1)
		}
	}
	if after.n < before.n {
		return fmt.Errorf("the fence fell from %d to %d", before.n, after.n)
	}
	_, placed := before.places[m.asker]
	if before.torn() || !placed && slices.Contains(before.line, m.asker) {
		h.counts["torn lines"]++
		return nil
	}
	owner, handed := before.owner, false
	switch {
	case m.takes:
		owner = m.asker
	case m.ends:
		owner = h.next(before, m)
		handed = owner != ""
	}
	if after.owner != owner {
		return fmt.Errorf("the lock is %q's instead of %q's; there was %v", after.owner, owner, before)
	}
	if handed {
		if err := h.judgeHandOver(before, m, owner); err != nil {
			return err
		}
	}
	if err := h.judgeBells(before, m, owner, handed); err != nil {
		return err
	}
	if err := h.judgeEnd(before, m.by, m.ends || m.takes && before.owner == ""); err != nil {
		return err
	}
	if err := h.judgeLine(before, m, owner); err != nil {
		return fmt.Errorf("%w; there was %v", err, before)
	}
	return h.judgePlaces(before, m)
}

// judgeHandOver: it is provisional, and not to an instance that has not claimed the last one.
func (h *history) judgeHandOver(before view, m move, owner string) error {
	after, p := h.now, parseSpot(before.places[owner])
	st, longest := "p", claimWindow.Milliseconds()
	if p.instance == "" {
		st, longest = "f", 30_000
	}
	if m.direct != nil {
		st, longest = "h", 30_000
		own := "l addr name"
		if m.direct.session {
			own = "s addr name"
		}
		if owner != m.direct.token || before.places[owner] != m.direct.place() || after.own != own || !about(after.left, 30_000) {
			return fmt.Errorf("%s was handed the lock directly for %d ms, %q, though %v was named", owner, after.left, after.own, m.direct)
		}
	}
	h.counts["handed "+st]++
	h.came[owner] = 0 // whether he claims or goes back to the front, he is first
	if after.tok != owner || after.att != p.id || after.st != st || after.left > longest {
		return fmt.Errorf("%s was handed the lock for %d ms by %s %s %s", owner, after.left, after.tok, after.att, after.st)
	}
	if at, ok := h.burnt[p.instance]; ok && h.st.now-at <= 30_000 {
		return fmt.Errorf("%s was handed the lock, and its proxy has not asked since it did not claim", owner)
	}
	return nil
}

// ran looks at what a script has left behind, and whom it told.
func (h *history) ran(reply any, by string) {
	h.saw(h.look())
	h.told = h.st.heard()
	list, _ := reply.([]any)
	for _, part := range list {
		rings, _ := part.([]any)
		for _, ring := range rings {
			seq, _, _ := strings.Cut(ring.(string), " ")
			h.told = append(h.told, fmt.Sprintf("ring %s:%s", by, seq))
		}
	}
	h.ringObservers()
}

// judgeBells: the new owner is told, he who then is first in line, and those whose promise was answered.
func (h *history) judgeBells(before view, m move, owner string, handed bool) error {
	var want []string
	ring := func(token string) {
		if p := parseSpot(before.places[token]); token != "" && token != m.asker && p.instance != "" {
			want = append(want, "ring "+p.id[2:])
		}
	}
	if handed || m.takes && before.owner == "" {
		want = append(want, "owner "+owner)
	}
	_, left := m.gone[before.first()]
	if others := m.without(owner); handed || m.takes && before.owner == "" {
		if m.direct == nil {
			ring(owner)
		}
		ring(h.next(before, others))
	} else if left && owner != "" {
		ring(h.next(before, others))
	}
	if m.dismissed != "" {
		want = append(want, "ended "+m.dismissed)
	}
	for _, place := range before.places {
		if p := parseSpot(place); m.struck && p.kind == "m" && p.instance != m.by {
			want = append(want, m.word+" "+p.instance)
		}
	}
	for _, news := range want {
		if !slices.ContainsFunc(h.told, func(told string) bool { return told == news || strings.HasPrefix(told, news+" ") }) {
			return fmt.Errorf("nobody was told %q, only %q; there was %v", news, h.told, before)
		}
	}
	return nil
}

func (v view) first() string {
	if len(v.line) == 0 {
		return ""
	}
	return v.line[0]
}

// without is m as if token had left as well.
func (m move) without(token string) move {
	gone := maps.Clone(m.gone)
	if gone == nil {
		gone = map[string]bool{}
	}
	gone[token] = false
	m.gone = gone
	return m
}

// judgeLine: everyone has his place.
func (h *history) judgeLine(before view, m move, owner string) error {
	after := h.now
	var want []string
	pending := after.tok == before.tok && after.att == before.att && after.st == before.st
	if before.lapsed() && !m.excused && !pending {
		want = append(want, before.tok)
		h.counts["put back"]++
		by := parseSpot(before.att).instance
		if by != m.by {
			h.burnt[by] = h.st.now
			for _, c := range h.calls {
				c.steady = c.steady && c.instance != by
			}
		}
	}
	if m.back != "" {
		want = append([]string{m.back}, want...)
	}
	if m.stays && before.lapsed() && before.tok == m.asker { // he was first
		want = append([]string{m.asker}, want...)
	}
	for _, token := range before.line {
		kept, leaves := m.gone[token]
		switch {
		case token == owner && after.owner == owner && before.owner != owner:
		case leaves && !kept:
		case m.struck && parseSpot(before.places[token]).kind == "m":
		default:
			want = append(want, token)
		}
	}
	if m.stays && !slices.Contains(want, m.asker) {
		want = append(want, m.asker)
	}
	i := 0
	for _, token := range want {
		if i < len(after.line) && after.line[i] == token {
			i++
		} else if !h.mayGo(before, token) {
			return fmt.Errorf("%s has lost its place: the line is %v instead of %v", token, after.line, want)
		} else {
			h.counts["dropped"]++
		}
	}
	if i < len(after.line) {
		return fmt.Errorf("the line is %v instead of %v", after.line, want)
	}
	for token := range after.places {
		if !slices.Contains(after.line, token) {
			return fmt.Errorf("%s has a place without standing in line", token)
		}
	}
	return nil
}

// mayGo: its place may be taken away when somebody comes by.
func (h *history) mayGo(before view, token string) bool {
	place, ok := before.places[token]
	p := parseSpot(place)
	age := h.st.now - p.since
	return !ok && slices.Contains(before.line, token) || p.kept && age > 2000 || p.since > 0 && !p.kept && age > 30_000
}

// judgePlaces: nobody else's place is touched but by a mark, and only if he can't be rung.
func (h *history) judgePlaces(before view, m move) error {
	for token, place := range h.now.places {
		was, ok := before.places[token]
		if _, leaves := m.gone[token]; !ok || place == was || token == m.asker || leaves {
			continue
		}
		p := parseSpot(was)
		if p.since == 0 && place == fmt.Sprintf("%s|%d", was, h.st.now) && !h.reachable(before, p, m.by) {
			continue
		}
		return fmt.Errorf("the place of %s went from %s to %s", token, was, place)
	}
	return nil
}

// foresee is the answer that a call must get.
func (h *history) foresee(c *played, first, nowait bool) string {
	v := h.now
	if _, rejected := h.rejection(c); c.memo && !v.hasValue && !rejected && h.stale.served(h.st.now) {
		stale := "stale " + h.stale.value
		if v.owner != "" && v.owner != c.token {
			return stale
		}
		_, stands := v.places[c.token]
		if want := h.foreseeFresh(c, first, nowait || !stands); want != "no" {
			return want
		}
		return stale
	}
	return h.foreseeFresh(c, first, nowait)
}

func (h *history) foreseeFresh(c *played, first, nowait bool) string {
	v := h.now
	if c.memo {
		if v.hasValue {
			return "value " + v.value
		}
		if message, ok := h.rejection(c); ok {
			return "rejected " + message
		}
	}
	elder := ""
	if place := v.places[c.token]; place != "" {
		elder = parseSpot(place).id
	} else if v.tok == c.token && (v.owner == c.token || v.lapsed()) {
		elder = v.att
	}
	switch {
	case elder != "" && elder != c.place() && !first:
		return "gone"
	case v.owner == c.token:
		return "granted"
	case v.owner != "":
		if nowait {
			return "no"
		}
		return "wait"
	case v.lapsed() && v.tok == c.token:
		return "granted"
	}
	if next := h.next(v, move{by: c.instance, asker: c.token}); next == "" || next == c.token {
		return "granted"
	}
	if nowait {
		return "no"
	}
	return "wait"
}

// rejection is what the last one says to c: it is for those who waited then, or for everyone.
func (h *history) rejection(c *played) (string, bool) {
	if c.unsure || h.rejected.unsure { // fences began anew while it waited; so what it says it waits for decides
		kind, rest, _ := strings.Cut(h.now.failure, " ")
		fence, message, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(fence, 10, 64)
		return message, err == nil && (kind == "m" || c.since >= 0 && c.since <= n)
	}
	r := h.rejected
	return r.message, r.message != "" && (r.all || c.joined > 0 && c.joined < r.tick)
}

// judgeAsk looks whether Redis holds what the answer says.
func (h *history) judgeAsk(before view, c *played, first, nowait bool, list []any) error {
	verdict := list[0].(string)
	m := move{by: c.instance, asker: c.token}
	mine := before.tok == c.token && before.st == "p" && (before.att == c.place() || first)
	place := parseSpot(before.places[c.token])
	switch verdict {
	case "gone":
		return h.judge(before, m, true)
	case "no":
		if before.owner != "" {
			return h.judge(before, m, true)
		}
		m.ends = true
	case "granted":
		m.takes, m.excused = true, before.tok == c.token
	case "wait":
		m.stays, m.excused = true, before.tok == c.token
		m.ends = before.owner == ""
		if h.now.places[c.token] != c.place() || !slices.Contains(h.now.line, c.token) && !before.crowded() {
			return fmt.Errorf("%v was told to wait and stands not in line; there was %v", c, before)
		}
		if ttls := h.now.ttls; !about(ttls[1], 60_000) || ttls[0] > 0 && !about(ttls[0], 60_000) {
			return fmt.Errorf("%v waits, and the line has only %v ms", c, ttls[:2])
		}
		if stranger := h.now.owner != h.now.tok || h.now.st == "f"; list[3] != int64(asFlag(stranger)) {
			return fmt.Errorf("%v was told %v about a stranger", c, list[3])
		}
	case "value", "rejected", "stale":
		switch {
		case verdict == "stale" && before.owner == "":
			m.ends = true
		case place.id == c.place() || place.id != "" && first:
			m.asker, m.gone = "", map[string]bool{c.token: false}
		case place.id == "" && mine && before.lapsed():
			m.asker, m.excused = "", true
		case place.id == "" && mine:
			m.asker, m.ends, m.excused = "", true, true
		default:
			return h.judge(before, m, true)
		}
	}
	return h.judge(before, m, false)
}
