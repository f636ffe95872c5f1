package locks

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// deed is a call as it is made in practice: what must be there before, the call, and its right answer.
type deed struct {
	name  string
	ready func(t *testing.T, s *stage.Stage, name string) (args []string)
	right func(reply any) bool
	reads bool // Redis need not write for it, so it is served where writing is refused
	frees bool // nor need it memory
}

// deeds are one for each KS command and each way it goes.
var deeds = []deed{
	{"KS.LOCK of a free lock", calls("KS.LOCK", "NAME", "EX", "60"), granted, false, false},
	{"KS.LOCK with SESSION", calls("KS.LOCK", "NAME", "SESSION"), granted, false, false},
	{"KS.LOCK that waits", held("KS.LOCK", "NAME", "WAIT", "30"), answers(nil), false, false},
	{"KS.LOCK with NOWAIT of a held lock", held("KS.LOCK", "NAME", "NOWAIT"), answers(nil), true, true},
	{"KS.LOCK of the owner again", held("KS.LOCK", "NAME", "TOKEN", "ITS"), granted, false, true},
	{"KS.UNLOCK", held("KS.UNLOCK", "NAME", "ITS"), answers(int64(1)), false, true},
	{"KS.UNLOCK that hands on", crowded("KS.UNLOCK", "NAME", "ITS"), answers(int64(1)), false, true},
	{"KS.UNLOCK by a stranger", held("KS.UNLOCK", "NAME", "a stranger's"), answers(int64(0)), true, true},
	{"KS.EXTEND", held("KS.EXTEND", "NAME", "ITS", "EX", "100"), answers(int64(1)), false, true},
	{"KS.EXTEND to less", crowded("KS.EXTEND", "NAME", "ITS", "EX", "50"), answers(int64(1)), false, true},
	{"KS.MLOCK", calls("KS.MLOCK", "2", "NAME", "NAME2", "EX", "60"), grantedTwo, false, false},
	{"KS.MLOCK of a held lock", held("KS.MLOCK", "2", "NAME", "EARLIER", "NOWAIT"), answers(nil), false, false},
	{"KS.MUNLOCK", heldTwo("KS.MUNLOCK", "2", "NAME", "NAME2", "ITS"), answers(int64(2)), false, true},
	{"KS.WAIT for a hold", held("KS.WAIT", "NAME", "30"), answers(int64(0)), false, false},
	{"KS.WAIT for nobody", calls("KS.WAIT", "NAME", "30"), answers(int64(1)), true, true},
	{"KS.GUARD of a write", held("KS.GUARD", "NAME", "ITS", "SET", "NAME3", "v"), answers("OK"), false, false},
	{"KS.GUARD of a read", held("KS.GUARD", "NAME", "ITS", "GET", "NAME3"), answers(nil), true, false},
	{"KS.STATUS", held("KS.STATUS", "NAME"), listed, true, true},
	{"KS.MEMO of nothing", calls("KS.MEMO", "NAME", "EX", "60"), granted, false, false},
	{"KS.MEMO of a value", cached("KS.MEMO", "NAME"), func(reply any) bool {
		pair, ok := reply.([]any)
		return ok && len(pair) == 2 && pair[1] == "cached"
	}, true, true},
	{"KS.RESOLVE", promised("KS.RESOLVE", "NAME", "ITS", "v", "PX", "60000"), answers(int64(1)), false, false},
	{"KS.RESOLVE with STALE", promised("KS.RESOLVE", "NAME", "ITS", "v", "PX", "60000", "STALE", "60000"), answers(int64(1)), false, false},
	{"KS.REJECT", promised("KS.REJECT", "NAME", "ITS", "m", "PX", "60000"), answers(int64(1)), false, false},
	{"KS.FORGET", cached("KS.FORGET", "NAME"), answers(int64(1)), false, true},
	{"KS.FORGET of a promise", promised("KS.FORGET", "NAME"), answers(int64(1)), false, true},
}

func answers(want any) func(any) bool { return func(reply any) bool { return reply == want } }

func granted(reply any) bool {
	_, err := stage.AsGrant(reply)
	return err == nil
}

func grantedTwo(reply any) bool {
	_, _, err := asGrants(reply, 2)
	return err == nil
}

func listed(reply any) bool {
	list, ok := reply.([]any)
	return ok && len(list) > 0
}

// fill puts the name and the token in where a call says so.
func fill(args []string, name, token string) []string {
	place := map[string]string{"NAME": name, "NAME2": name + "2", "NAME3": name + "3", "EARLIER": "likes:before" + name, "ITS": token}
	all := slices.Clone(args)
	for i, arg := range args {
		if filled, ok := place[arg]; ok {
			all[i] = filled
		}
	}
	return all
}

// calls needs nothing.
func calls(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return func(_ *testing.T, _ *stage.Stage, name string) []string { return fill(args, name, "") }
}

// after makes the calls that come first, on proxy 0.
func after(first func(t *testing.T, s *stage.Stage, c *stage.Client, name, token string), args []string) func(*testing.T, *stage.Stage, string) []string {
	return func(t *testing.T, s *stage.Stage, name string) []string {
		token := "owner of " + name
		c := s.Client(t, 0)
		first(t, s, c, name, token)
		c.Close()
		return fill(args, name, token)
	}
}

func held(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return after(func(_ *testing.T, _ *stage.Stage, c *stage.Client, name, token string) {
		c.Lock(name, "EX", "60", "TOKEN", token)
	}, args)
}

// crowded has two who wait, on both proxies.
func crowded(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return after(func(t *testing.T, s *stage.Stage, c *stage.Client, name, token string) {
		c.Lock(name, "EX", "60", "TOKEN", token)
		s.Join(t, 0, name, "EX", "60")
		s.Join(t, 1, name, "EX", "60")
	}, args)
}

func heldTwo(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return after(func(t *testing.T, _ *stage.Stage, c *stage.Client, name, token string) {
		mlock(t, c, []string{name, name + "2"}, "EX", "60", "TOKEN", token)
	}, args)
}

func promised(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return after(func(_ *testing.T, _ *stage.Stage, c *stage.Client, name, token string) {
		c.Generate(name, "EX", "60", "TOKEN", token)
	}, args)
}

func cached(args ...string) func(*testing.T, *stage.Stage, string) []string {
	return after(func(_ *testing.T, _ *stage.Stage, c *stage.Client, name, _ string) {
		c.Expect("OK", "SET", name, "cached", "EX", "60")
	}, args)
}

var deedsDone atomic.Int64

// newName is a name of its own for each deed.
func newName() string { return fmt.Sprintf("likes:deed%d.", deedsDone.Add(1)) }

// left is all that Redis holds of the names of a deed. The fence of a lock that was let go of may stay.
func (d deed) left(t *testing.T, s *stage.Stage, name string) string {
	t.Helper()
	but := ""
	if strings.HasPrefix(d.name, "KS.MLOCK") {
		but = "/fence"
	}
	return s.DumpOf(t, "*"+strings.TrimPrefix(name, "likes:")+"*", but)
}
