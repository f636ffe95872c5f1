package stage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// NothingLeft checks that a finished normal course leaves the fences and what
// was stored for longer, and that nothing of that is there for ever.
func (s *Stage) NothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	deadline := time.Now().Add(harness.Patience)
	for {
		left = slices.DeleteFunc(s.Words(t, "KEYS", "*"), stays)
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond) // the next look
	}
	for _, key := range left {
		t.Errorf("%s is left, for %v ms", key, s.Try(t, "PTTL", key))
	}
	for _, key := range s.Words(t, "KEYS", "*") {
		if ttl := s.Try(t, "PTTL", key); ttl == int64(-1) {
			t.Errorf("%s would stay for ever", key)
		}
	}
}

// stays: a fence, or what the proxies have agreed on.
func stays(key string) bool { return strings.Contains(key, "/fence") || key == "ks/config:tag-split" }

// WithinAMinute checks what even an abrupt end leaves: nothing but fences that
// does not go by itself within a minute.
func (s *Stage) WithinAMinute(t *testing.T) {
	t.Helper()
	for _, key := range s.Words(t, "KEYS", "*") {
		ttl, _ := s.Try(t, "PTTL", key).(int64)
		switch {
		case ttl == -2: // gone meanwhile
		case ttl == -1:
			t.Errorf("%s would stay for ever", key)
		case ttl > 60_000 && !stays(key):
			t.Errorf("%s stays for %d ms", key, ttl)
		}
	}
}

// Resources is what the proxies use.
type Resources struct {
	connections int
	files       []int
}

// Resources looks what the proxies use now.
func (s *Stage) Resources(t testing.TB) Resources {
	t.Helper()
	r := Resources{connections: len(s.Own(t, -1))}
	for _, p := range s.Proxies {
		r.files = append(r.files, p.Files(t))
	}
	return r
}

// AwaitResources waits until the proxies use no more than before: no
// connection and no descriptor of a client is left. Their own pool of connections may
// have grown.
func (s *Stage) AwaitResources(t testing.TB, before Resources) {
	t.Helper()
	const pooled = 20 // own connections in a proxy's pool
	var now Resources
	defer func() { t.Logf("own connections and descriptors: %+v before, %+v after", before, now) }()
	Eventually(t, fmt.Sprintf("the proxies use no more than before: %+v", before), func() bool {
		now = s.Resources(t)
		grown := now.connections - before.connections
		for i := range now.files {
			grown = max(grown, now.files[i]-before.files[i])
		}
		strangers := 0
		for _, p := range s.Peers(t) {
			if p["name"] != "keysmith-proxy" {
				strangers++
			}
		}
		return grown <= pooled && strangers == 2 // who looks, and who listens to everything
	})
}

// Dump is all that Redis holds, TTLs left out.
func (s *Stage) Dump(t testing.TB) string {
	t.Helper()
	return s.DumpOf(t, "*", "")
}

// DumpOf is Dump for the keys that match pattern, as KEYS has it, without those in whose name but occurs.
func (s *Stage) DumpOf(t testing.TB, pattern, but string) string {
	t.Helper()
	return fmt.Sprintf("%q", s.Must(t, "EVAL", `
		local all = {}
		local keys = redis.call('KEYS', ARGV[1])
		table.sort(keys)
		for _, key in ipairs(keys) do
			if ARGV[2] == '' or not string.find(key, ARGV[2], 1, true) then
				all[#all + 1] = key
				all[#all + 1] = redis.call('DUMP', key)
			end
		end
		return all`, "0", pattern, but))
}

// NothingOf waits until no key of name is left but those named, by what they are for.
func (s *Stage) NothingOf(t testing.TB, name string, but ...string) {
	t.Helper()
	for _, what := range []string{"lock", "lockwaiting", "lockwaitingset", "fence", "error", "stale"} {
		if slices.Contains(but, what) {
			continue
		}
		key := KeyOf(name, what)
		Eventually(t, key+" is gone", func() bool { return s.Must(t, "EXISTS", key) == int64(0) })
	}
}
