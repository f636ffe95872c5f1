package engine

import (
	"strings"
	"testing"
)

// act is a step and what must come of it.
type act struct{ step, want string }

// scenarios are the scripts in every state, step by step. A, B, C are proxies, a, b, c, ... tokens; the
// last line of a scenario is what Redis must hold in the end.
var scenarios = []struct {
	name  string
	acts  []act
	state string
}{
	{"a free lock is granted and KeySmith's processes are told", []act{
		{"ask a A:1", "granted, owner a"},
	}, "a [] {a l:A:1 h}"},

	{"who asks again has it still, for another lease", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask a A:1 again", "granted"},
	}, "a [] {a l:A:1 h}"},

	{"a held lock is waited for in the order of asking", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"ask b B:1 again", "wait first"},
	}, "a [b=l:B:1 c=l:C:1] {a l:A:1 h}"},

	{"who does not wait is refused and not in line", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1 nowait", "no"},
	}, "a [] {a l:A:1 h}"},

	{"an unlock hands over: new owner and new first in line are rung, the lock is never free", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"ask d A:2 nowait", "no"},
	}, "b [c=l:C:1] {b l:B:1 p}"},

	{"the new owner's own ask claims what was handed to him", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"ask b B:1 again", "granted"},
	}, "b [] {b l:B:1 h}"},

	{"waiters of the releasing proxy are rung by the reply", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c A:3", "wait"},
		{"release A a", "1, own A:2, own A:3, owner b"},
	}, "b [c=l:A:3] {b l:A:2 p}"},

	{"a claim with a shorter lease rings the first in line", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c A:3", "wait"},
		{"release A a", "1, own A:2, own A:3, owner b"},
		{"ask b A:2 again px=500", "granted, own A:3"},
	}, "b [c=l:A:3] {b l:A:2 h}"},

	{"a waiter of the releasing proxy has the lock at once, if he is named; who is first then is told", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c A:3", "wait"},
		{"release A a b:2 px=500", "1, directly, own A:3, owner b"},
		{"ask b A:2 again px=500", "granted"},
	}, "b [c=l:A:3] {b l:A:2 h}"},

	{"who is named and alone in line has the lock at once", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"release A a b:2", "1, directly, owner b"},
		{"release A b", "1"},
	}, " [] {}"},

	{"who is first behind the named one is rung on another proxy", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c B:1", "wait"},
		{"release A a b:2", "1, directly, owner b, ring B:1"},
	}, "b [c=l:B:1] {b l:A:2 h}"},

	{"if who is first behind the named one can't be rung, the line goes the general way", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c B:1", "wait"},
		{"ask d A:3", "wait"},
		{"release A a b:2", "1, own A:2, own A:3, owner b"},
	}, "b [c=l:B:1|1000000 d=l:A:3] {b l:A:2 p}"},

	{"who is named but not first has to wait", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c A:2", "wait"},
		{"release A a c:2", "1, own A:2, watch, owner b, ring B:1"},
	}, "b [c=l:A:2] {b l:B:1 p}"},

	{"who is named by an older place is not taken for the later one", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask b A:3", "wait first, own A:2"},
		{"release A a b:2", "1, own A:3, owner b"},
	}, "b [] {b l:A:3 p}"},

	{"KS.MEMO callers are not named, whoever says so", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"release A a b:2", "1, own A:2, owner b"},
	}, "b [] {b m:A:2 p}"},

	{"a lock that another proxy's connection holds is given up with a bell for it", []act{
		{"live B", ""},
		{"ask a B:1 session", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"release A a b:2", "1, own A:2, owner b, ended B:1"},
	}, "b [] {b l:A:2 p}"},

	{"those who wait for the end of a hold are rung when it goes on directly", []act{
		{"ask a A:1", "granted, owner a"},
		{"observe A", "held a 1000000000"},
		{"ask b A:2", "wait first"},
		{"release A a b:2", "1, own A:2, own ended, owner b"},
	}, "b [] {b l:A:2 p}"},

	{"a suspect that named its own waiter is absolved", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"expire lock", ""},
		{"ask c C:1 again", "granted, owner c"},
		{"release B c b:1", "1"},
	}, " [b=l:B:1|!1000000] {}"},

	{"a suspect that enters a line is absolved", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"expire lock", ""},
		{"ask c C:1 again", "granted, owner c"},
		{"ask d B:2", "wait"},
	}, "c [b=l:B:1|!1000000 d=l:B:2] {c l:C:1 h}"},

	{"an unlock that nobody waits for frees the lock", []act{
		{"ask a A:1", "granted, owner a"},
		{"release A a", "1"},
	}, " [] {}"},

	{"an unlock by another token does nothing", []act{
		{"ask a A:1", "granted, owner a"},
		{"release A b", "0"},
		{"release A A", "0"},
	}, "a [] {a l:A:1 h}"},

	{"a lock that ran out goes to the first in line, whoever asks", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"expire lock", ""},
		{"ask d A:2", "wait, watch, owner b, ring B:1, ring C:1"},
	}, "b [c=l:C:1 d=l:A:2] {b l:B:1 p}"},

	{"a newcomer who does not wait hands it over all the same", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"expire lock", ""},
		{"ask d A:2 nowait", "no, watch, owner b, ring B:1"},
	}, "b [] {b l:B:1 p}"},

	{"the first in line takes a lock that ran out, and the next is rung", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"expire lock", ""},
		{"ask b B:1 again", "granted, owner b, ring C:1"},
	}, "b [c=l:C:1] {b l:B:1 h}"},

	// nobody claims
	{"who does not claim goes back to the front, marked, his proxy suspect, and the next is served", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask e B:2", "wait"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring B:2"},
		{"expire lock", ""},
		{"ask c C:1 again", "granted, owner c"},
	}, "c [b=l:B:1|!1000000 e=l:B:2|1000000] {c l:C:1 h} suspect B@1000000"},

	{"who thaws takes his place at the front again, and his proxy is trusted", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"expire lock", ""},
		{"ask c C:1 again", "granted, owner c"},
		{"ask b B:1 again", "wait first"},
		{"release C c", "1, watch, owner b, ring B:1"},
		{"ask b B:1 again", "granted"},
	}, "b [] {b l:B:1 h}"},

	{"who claims late but before anyone else is granted", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"expire lock", ""},
		{"ask b B:1 again", "granted, owner b"},
	}, "b [] {b l:B:1 h}"},

	{"who was handed a lock that a stranger then took is first again", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"redis SET x/lock:n stranger PX 60000", ""},
		{"ask b B:1 again", "wait first stranger"},
	}, "stranger [b=l:B:1 c=l:C:1] {}"},

	// reachable or not; the test itself listens by PSUBSCRIBE *.
	{"waiters of a dead proxy are skipped in spite of PSUBSCRIBE *, and keep their place", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"dead B", ""},
		{"release A a", "1, watch, owner c, ring C:1"},
		{"live B", ""},
		{"ask b B:1 again", "wait first"},
	}, "c [b=l:B:1] {c l:C:1 p}"},

	{"if nobody can be rung the lock is free and the line stays", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1"},
		{"ask b B:1 again", "granted, owner b"},
	}, "b [] {b l:B:1 h}"},

	{"who can't be rung for longer than 30 s is out", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"live C", ""},
		{"release A a", "1, watch, owner c, ring C:1"},
		{"pass 30001", ""},
		{"release C c", "1"},
	}, " [] {}"},

	// attempts
	{"a later call with the same token takes the place over; the older is told to ask and is gone", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask b C:1", "wait first, ring B:1"},
		{"ask b B:1 again", "gone"},
		{"ask b C:1 again", "wait first"},
		{"leave B all b:1", "0"},
	}, "a [b=l:C:1] {a l:A:1 h}"},

	{"a later call with the same token takes the grant over, and late cleaning up leaves it alone", []act{
		{"ask a A:1", "granted, owner a"},
		{"live A", ""},
		{"ask a B:1", "granted, ring A:1"},
		{"leave A all a:1", "0"},
		{"ask a A:1 again", "gone"},
	}, "a [] {a l:B:1 h}"},

	{"a later call with the same token takes over what was handed to the earlier", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"ask b C:1", "granted, ring B:1"},
		{"ask b B:1 again", "gone"},
		{"leave B all b:1", "0"},
	}, "b [] {b l:C:1 h}"},

	// leave
	{"who leaves is out of the line, and a new first in line is rung", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"leave B all b:1", "1, ring C:1"},
	}, "a [c=l:C:1] {a l:A:1 h}"},

	{"who leaves while the lock is handed to him hands it on", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"leave B all b:1", "1, watch, owner c, ring C:1"},
	}, "c [] {c l:C:1 p}"},

	{"who leaves after his hand-off ran out is not put back", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"expire lock", ""},
		{"leave B all b:1", "1"},
		{"ask c C:1", "granted, owner c"},
	}, "c [] {c l:C:1 h}"},

	{"who handed over looks whether it was claimed, and if not the line goes on", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c B:2", "wait"},
		{"ask d C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring B:2"},
		{"leave A all", "0, watch"},
		{"expire lock", ""},
		{"leave A all", "0, watch, owner d, ring C:1"},
	}, "d [b=l:B:1|!1000000 c=l:B:2|1000000] {d l:C:1 p} suspect B@1000000"},

	{"a stale bell's leave keeps what was claimed", []act{
		{"ask a A:1", "granted, owner a"},
		{"leave A unclaimed a:1", "0"},
	}, "a [] {a l:A:1 h}"},

	{"a leave after a crossing grant gives it back", []act{
		{"ask a A:1", "granted, owner a"},
		{"leave A all a:1", "1"},
	}, " [] {}"},

	{"many leave in one step, owner and first in line among them", []act{
		{"live B C", ""},
		{"ask a B:1", "granted, owner a"},
		{"ask b B:2", "wait first"},
		{"ask c C:1", "wait"},
		{"ask d B:3", "wait"},
		{"leave B all a:1 b:2 d:3", "3, watch, owner c, ring C:1"},
	}, "c [] {c l:C:1 p}"},

	{"a place that was left and taken again is at the end", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"ask c A:3", "wait"},
		{"leave A all b:2", "1, own A:3"},
		{"ask b A:4", "wait"},
	}, "a [c=l:A:3 b=l:A:4] {a l:A:1 h}"},

	{"a token without a place is swept from the line, not served", []act{
		{"ask a A:1", "granted, owner a"},
		{"redis RPUSH x/lockwaiting:n stale", ""},
		{"ask b A:2", "wait"},
		{"release A a", "1, own A:2, owner b"},
	}, "b [] {b l:A:2 p}"},

	// places that are kept
	{"a call with a token of its own keeps its place for the next, and is passed by meanwhile", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"leave B keep b:1", "1, ring C:1"},
		{"leave B keep b:1", "0"},
		{"release A a", "1, watch, owner c, ring C:1"},
		{"ask b A:2", "wait first"},
	}, "c [b=l:A:2] {c l:C:1 p}"},

	{"a place is kept for two seconds", []act{
		{"live C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"leave B keep b:1", "1, ring C:1"},
		{"pass 2001", ""},
		{"release A a", "1, watch, owner c, ring C:1"},
	}, "c [] {c l:C:1 p}"},

	{"a place that was kept long enough is cleared away by its proxy, if nobody has taken it again", []act{
		{"live A B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"ask d B:2", "wait"},
		{"leave B keep b:1 d:2", "2, ring C:1"},
		{"ask d A:2", "wait"},
		{"leave B over b:1 d:2", "1, ring C:1"},
		{"leave B over b:1", "0"},
		{"leave B over c:1", "0"},
	}, "a [c=l:C:1 d=l:A:2] {a l:A:1 h}"},

	{"a kept place reserves nothing", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"leave B keep b:1", "1"},
		{"release A a", "1"},
		{"ask c C:1 nowait", "granted, owner c"},
	}, "c [b=l:B:1|~1000000] {c l:C:1 h}"},

	{"who is handed the lock as his call ends hands it on and is at the front for the next", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"ask d C:2", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"leave B keep b:1", "1, watch, owner c, ring C:1, ring C:2"},
		{"ask b A:2", "wait first"},
	}, "c [b=l:A:2 d=l:C:2] {c l:C:1 p}"},

	{"who did not claim in time and leaves is at the front for the next call, and not suspect for long", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"expire lock", ""},
		{"leave B keep b:1", "1"},
		{"ask b A:2", "granted, owner b"},
	}, "b [] {b l:A:2 h}"},

	// leases
	{"a lease is extended by its token only", []act{
		{"ask a A:1", "granted, owner a"},
		{"extend A a 60000", "1"},
		{"extend A b 60000", "0"},
		{"release A a", "1"},
		{"extend A a 60000", "0"},
	}, " [] {}"},

	{"who is first in line is rung when the lease becomes shorter", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"extend A a 60000", "1"},
		{"extend A a 500", "1, ring B:1"},
	}, "a [b=l:B:1] {a l:A:1 h}"},

	{"what was handed over and not claimed can't be extended", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"extend A b 60000", "0"},
	}, "b [] {b l:B:1 p}"},

	{"a stranger's lease is extended by its token", []act{
		{"redis SET x/lock:n stranger PX 60000", ""},
		{"extend A stranger 100000", "1"},
	}, "stranger [] {}"},

	{"a connection's lock is renewed for the attempt that has it", []act{
		{"ask a A:1 session", "granted, owner a"},
		{"renew a A:1", "1"},
		{"renew b A:1", "0"},
		{"ask a B:1 session", "granted, ring A:1"},
		{"renew a A:1", "2"},
		{"leave A all a:1", "0"},
		{"renew a B:1", "1"},
		{"expire lock", ""},
		{"renew a B:1", "0"},
	}, " [] {a l:B:1 h}"},

	{"the proxy of a connection's lock is told that another ended it", []act{
		{"live A", ""},
		{"ask a A:1 session", "granted, owner a"},
		{"release B a", "1, ended A:1"},
		{"renew a A:1", "3"},
		{"renew a A:2", "0"},
		{"ask b A:2 session", "granted, owner b"},
		{"release A b", "1"},
		{"ask c A:3", "granted, owner c"},
		{"release B c", "1"},
		{"ask d A:4 session memo", "granted, owner d"},
		{"resolve B d v", "1, notif v, ended A:4"},
	}, " [] {}"},

	{"a connection's lock that is asked for with a lease becomes one", []act{
		{"live A", ""},
		{"ask a A:1 session", "granted, owner a"},
		{"ask a A:2 px=5000", "granted, own A:1"},
		{"release B a", "1"},
	}, " [] {}"},

	{"the status of a name", []act{
		{"status A", "[0 -2  0 0 0 0]"},
		{"ask a A:1 session", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"status A", "[1 some addr name 1000000000 1 0 0]"},
		{"redis SET x:n v", ""},
		{"redis SET x/error:n m<1<no", ""},
		{"status A", "[1 some addr name 1000000000 1 1 1]"},
		{"redis SET x/error:n o<1<no", ""},
		{"redis PERSIST x/lock:n", ""},
		{"status A", "[1 -1 addr name 1000000000 1 1 0]"},
		{"live B", ""},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"status A", "[1 some  1000000000 0 1 0]"},
	}, "b [] {b l:B:1 p}"},

	{"those who wait for the end of a hold are rung at it, once", []act{
		{"live B C", ""},
		{"observe A", "free"},
		{"ask a A:1", "granted, owner a"},
		{"observe A", "held a 1000000000"},
		{"observe B", "held a 1000000000"},
		{"observe B", "held a 1000000000"},
		{"ask c C:1", "wait first"},
		{"release A a", "1, own ended, watch, owner c, ring C:1, ended for B"},
		{"observe B", "held c "},
		{"ask c C:1 again", "granted"},
		{"leave C all c:1", "1, ended for B"},
		{"ask d A:2 memo", "granted, owner d"},
		{"observe B", "held d 1000000002"},
		{"resolve A d v", "1, notif v, ended for B"},
		{"redis DEL x:n", ""},
		{"ask e A:3 memo", "granted, owner e"},
		{"observe B", "held e 1000000003"},
		{"reject A e no", "1, ended for B"},
		{"ask f A:4", "granted, owner f"},
		{"observe B", "held f 1000000004"},
		{"expire lock", ""},
		{"ask g C:2", "granted, owner g, ended for B"},
		{"release C g", "1"},
	}, " [] {}"},

	// strangers, KeySmith
	{"a stranger's lock is waited for, with the advice to look often", []act{
		{"redis SET x/lock:n stranger PX 60000", ""},
		{"ask b A:1", "wait first stranger"},
	}, "stranger [b=l:A:1] {}"},

	{"a lock that a KeySmith process hands to our waiter is his, with a fence of its own", []act{
		{"redis SET x/lock:n net PX 60000", ""},
		{"ask b A:1", "wait first stranger"},
		{"redis LPOP x/lockwaiting:n", ""},
		{"redis HDEL x/lockwaitingset:n b", ""},
		{"redis SET x/lock:n b PX 60000", ""},
		{"ask b A:1 again", "granted"},
	}, "b [] {b l:A:1 h}"},

	{"KeySmith's waiter gets a whole lease if its process listens", []act{
		{"live KeySmith", ""},
		{"ask a A:1", "granted, owner a"},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"ask b A:2", "wait"},
		{"release A a", "1, own A:2, owner net"},
		{"ask b A:2 again", "wait first stranger"},
	}, "net [b=l:A:2] {net 0 f}"},

	{"KeySmith's waiter is skipped if nobody listens", []act{
		{"ask a A:1", "granted, owner a"},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"ask b A:2", "wait"},
		{"release A a", "1, own A:2, owner b"},
	}, "b [net=0|1000000] {b l:A:2 p}"},

	{"the first of ours is rung when one of several of KeySmith's gets the lock: its release rings nobody", []act{
		{"live KeySmith", ""},
		{"ask a A:1", "granted, owner a"},
		{"redis RPUSH x/lockwaiting:n net1 net2", ""},
		{"redis HSET x/lockwaitingset:n net1 0 net2 0", ""},
		{"ask b A:2", "wait"},
		{"ask c A:3", "wait"},
		{"release A a", "1, own A:2, owner net1"},
	}, "net1 [net2=0 b=l:A:2 c=l:A:3] {net1 0 f}"},

	{"the next of ours is rung when the one before him and KeySmith's leaves", []act{
		{"live KeySmith", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"ask a A:1", "wait first stranger"},
		{"redis RPUSH x/lockwaiting:n net2", ""},
		{"redis HSET x/lockwaitingset:n net2 0", ""},
		{"ask b A:2", "wait stranger"},
		{"leave A all a:1", "1, own A:2"},
	}, "net [net2=0 b=l:A:2] {}"},

	{"a KeySmith process that took the lock past its own place does not get it back when it gives it back", []act{
		{"live KeySmith", ""},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"ask b A:1", "wait stranger"},
		{"release A net", "1, own A:1, owner b"},
	}, "b [] {b l:A:1 p}"},

	{"nor when it is behind others in line", []act{
		{"live KeySmith", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"ask a A:1", "wait first stranger"},
		{"ask b A:2", "wait stranger"},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"release A net", "1, own A:1, own A:2, owner a"},
	}, "a [b=l:A:2] {a l:A:1 p}"},

	{"nor when it rejects or resolves what it holds", []act{
		{"live KeySmith", ""},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"reject A net no", "1"},
		{"redis RPUSH x/lockwaiting:n net", ""},
		{"redis HSET x/lockwaitingset:n net 0", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"resolve A net v", "1, notif v"},
	}, " [] {}"},

	{"a line that was deleted is entered anew", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2", "wait first"},
		{"redis DEL x/lockwaiting:n x/lockwaitingset:n", ""},
		{"ask b A:2 again", "wait first"},
	}, "a [b=l:A:2] {a l:A:1 h}"},

	{"half a line that was deleted is entered anew by those who ask", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"redis DEL x/lockwaiting:n", ""},
		{"ask d A:2", "wait first"},
		{"ask c C:1 again", "wait"},
		{"ask b B:1 again", "wait"},
		{"ask b B:1 again", "wait"},
		{"release A a", "1, own A:2, owner d, ring C:1"},
	}, "d [c=l:C:1 b=l:B:1] {d l:A:2 p}"},

	{"who did not claim is put back once, though a stranger has the lock", []act{
		{"live B C", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"expire lock", ""},
		{"redis SET x/lock:n net PX 60000", ""},
		{"leave C all c:1", "1"},
		{"ask d A:2", "wait stranger"},
	}, "net [b=l:B:1|!1000000 d=l:A:2] {} suspect B@1000000"},

	// memo
	{"a promise is a lock", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"ask c A:3", "wait"},
	}, "a [b=m:A:2 c=l:A:3] {a m:A:1 h}"},

	{"a resolve serves all memo waiters, strikes them and hands the lock to the next lock waiter", []act{
		{"live B C", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"ask c C:1", "wait"},
		{"ask d B:2 memo", "wait"},
		{"ask e A:2 memo", "wait"},
		{"ask f C:2", "wait"},
		{"resolve A a v", "1, own ready, watch, owner c, notif v, ring C:1, ring C:2, ready B"},
		{"ask d B:2 memo again", "value v"},
	}, "c [f=l:C:2] {c l:C:1 p}"},

	{"a brief value travels with the bell", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"resolve A a v 1000", "1, notif v, ready B v"},
	}, " [] {}"},

	{"who does not hold the promise stores nothing", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A b v", "0"},
		{"ask c A:2 memo", "wait first"},
	}, "a [c=m:A:2] {a m:A:1 h}"},

	{"a lock is no promise", []act{
		{"ask a A:1", "granted, owner a"},
		{"resolve A a v", "0"},
		{"ask c A:2 memo", "wait first"},
	}, "a [c=m:A:2] {a l:A:1 h}"},

	{"a rejection is told to all memo waiters, strikes them and hands the lock to the next lock waiter", []act{
		{"live B C", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"ask c C:1", "wait"},
		{"ask d A:2 memo", "wait"},
		{"ask e C:2", "wait"},
		{"reject A a no", "1, own ready, watch, owner c, ring C:1, ring C:2, rejected B no"},
		{"ask b B:1 memo again since=1000000000", "rejected no"},
		{"ask f A:3 memo tell", "wait since=1000000001"},
		{"ask f A:3 memo again since=1000000001 tell", "wait since=1000000001"},
	}, "c [e=l:C:2 f=m:A:3] {c l:C:1 p}"},

	{"a rejection without a TTL is for those only who waited for that promise", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"reject A a no", "1"},
		{"ask b B:1 memo", "granted, owner b"},
		{"reject B b again", "1"},
		{"ask c C:1 memo since=1000000001", "rejected again"},
		{"ask c C:1 memo", "granted, owner c"},
	}, "c [] {c m:C:1 h}"},

	{"a rejection with a TTL is for everyone until it has run out", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"reject A a no 5000", "1"},
		{"ask b B:1 memo", "rejected no"},
		{"ask b B:1 memo nowait", "rejected no"},
		{"ask c C:1", "granted, owner c"},
		{"release C c", "1"},
		{"redis DEL x/error:n", ""},
		{"ask b B:1 memo", "granted, owner b"},
	}, "b [] {b m:B:1 h}"},

	{"who is rejected while the promise is handed to him hands it on", []act{
		{"live B C", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"ask c C:1", "wait"},
		{"release A a", "1, watch, owner b, ring B:1, ring C:1"},
		{"redis SET x/error:n m<1<no", ""},
		{"ask b B:1 memo again", "rejected no, watch, owner c, ring C:1"},
	}, "c [] {c l:C:1 p}"},

	{"who does not hold the promise rejects nothing, and a lock is no promise", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"reject A b no", "0"},
		{"release A a", "1"},
		{"ask c A:2", "granted, owner c"},
		{"reject A c no", "0"},
	}, "c [] {c l:A:2 h}"},

	{"a stranger's promise is rejected for those who wait for it, not for those who come later", []act{
		{"redis SET x/lock:n theirs PX 60000", ""},
		{"ask a A:1 memo tell", "wait first stranger since=1"},
		{"reject A theirs no", "1, own ready"},
		{"ask a A:1 memo again since=1", "rejected no"},
		{"redis SET x/lock:n theirs PX 60000", ""},
		{"ask b B:1 memo tell", "wait first stranger since=2"},
		{"ask b B:1 memo again since=2 tell", "wait first stranger since=2"},
	}, "theirs [b=m:B:1] {}"},

	{"a value ends a memoized rejection", []act{
		{"redis SET x/error:n m<1<no", ""},
		{"redis SET x/lock:n theirs PX 60000", ""},
		{"ask a A:1 memo", "rejected no"},
		{"resolve A theirs v", "1, notif v"},
		{"redis DEL x:n", ""},
		{"ask a A:1 memo", "granted, owner a"},
	}, "a [] {a m:A:1 h}"},

	{"who forgets removes the value and takes the promise from who makes it, and the next in line gets it", []act{
		{"live B C", ""},
		{"forget A", "0"},
		{"ask a B:1 memo", "granted, owner a"},
		{"observe C", "held a 1000000000"},
		{"ask b C:1 memo", "wait first"},
		{"ask c C:2", "wait"},
		{"redis SET x:n theirs", ""},
		{"forget A", "1, watch, owner b, lost a, ring C:1, ring C:2, ended for C"},
		{"status A", "[1 some  1000000000 1 0 0]"},
		{"resolve B a old", "0"},
		{"reject B a old", "0"},
		{"extend B a 60000", "0"},
		{"release B a", "0"},
		{"ask b C:1 memo again", "granted"},
		{"resolve C b new", "1, own C:2, owner c, notif new"},
	}, "c [] {c l:C:2 p}"},

	{"who forgets removes a value or a rejection, and leaves a lock and the line alone", []act{
		{"live B", ""},
		{"ask a A:1", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"redis SET x:n v", ""},
		{"redis SET x/error:n m<1<no", ""},
		{"forget A", "1"},
		{"status A", "[1 some addr name 1000000000 1 0 0]"},
		{"forget A", "0"},
		{"redis SET x/error:n o<1<no", ""},
		{"forget A", "0"},
		{"ask b B:1 memo again since=1", "rejected no"},
	}, "a [] {a l:A:1 h}"},

	{"a promise that is only handed over is not revoked, nor one that has run out, nor a stranger's", []act{
		{"live B", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b B:1 memo", "wait first"},
		{"release A a", "1, watch, owner b, ring B:1"},
		{"forget A", "0"},
		{"resolve B b early", "0"},
		{"ask b B:1 memo again", "granted"},
		{"expire lock", ""},
		{"forget A", "0"},
		{"redis SET x/lock:n theirs PX 60000", ""},
		{"forget A", "0"},
		{"resolve A theirs v", "1, notif v"},
	}, " [] {}"},

	{"the connection that holds a promise hears that it was revoked, from its own proxy alone", []act{
		{"live A", ""},
		{"ask a A:1 memo session", "granted, owner a"},
		{"forget B", "1, lost a, ended A:1"},
		{"renew a A:1", "4"},
		{"ask b A:2 memo session", "granted, owner b"},
		{"forget A", "1, own lost A:2, lost b"},
		{"renew b A:2", "4"},
		{"leave A all b:2", "0"},
		{"ask c A:3 memo session", "granted, owner c"},
		{"release B c", "1, ended A:3"},
		{"renew c A:3", "3"},
	}, " [] {}"},

	// stale values; the value's TTL is Redis's own, the clock is the test's
	{"a value whose TTL has ended is served while another makes the next", []act{
		{"live A B", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A a old 5000 60000", "1, notif old"},
		{"pass 5002", ""},
		{"redis DEL x:n", ""}, // its TTL
		{"ask b B:1 memo nowait", "granted, owner b"},
		{"ask c A:2 memo", "stale old"},
		{"ask c A:3 memo nowait", "stale old"},
		{"ask d A:4", "wait first"},
		{"release B b", "1, watch, owner d, ring A:4"},
		{"ask c A:5 memo", "stale old"},
		{"release A d", "1"},
		{"ask e B:2 memo", "granted, owner e"},
		{"ask e B:3 memo", "granted, own B:2"},
		{"resolve B e new 5000", "1, notif new"},
		{"pass 5002", ""},
		{"redis DEL x:n", ""},
		{"ask f B:4 memo", "granted, owner f"},
		{"ask g A:6 memo", "wait first"},
	}, "f [g=m:A:6] {f m:B:4 h}"},

	{"a value that was deleted is not served: who asks before its TTL ends notices", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A a old 5000 60000", "1, notif old"},
		{"redis DEL x:n", ""},
		{"pass 4000", ""},
		{"ask b B:1 memo", "granted, owner b"},
		{"pass 5000", ""},
		{"ask c A:2 memo nowait", "no"},
		{"ask c A:3 memo", "wait first"},
	}, "b [c=m:A:3] {b m:B:1 h}"},

	{"a value that was deleted is not served: if nobody asks, its proxy looks", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A a old 5000 60000", "1, notif old"},
		{"look", ""},
		{"redis DEL x:n", ""},
		{"pass 4900", ""},
		{"look", ""},
		{"pass 200", ""},
		{"ask b B:1 memo", "granted, owner b"},
		{"ask c A:2 memo nowait", "no"},
		{"resolve B b two 5000 60000", "1, notif two"},
		{"redis SET x:n another PX 5000", ""},
		{"look", ""},
		{"redis DEL x:n", ""},
		{"pass 5002", ""},
		{"ask d A:3 memo", "granted, owner d"},
		{"ask e A:4 memo nowait", "no"},
		{"resolve A d three 5000 60000", "1, notif three"},
		{"redis PERSIST x:n", ""},
		{"look", ""},
		{"redis DEL x:n", ""},
		{"pass 5002", ""},
		{"ask f A:5 memo", "granted, owner f"},
		{"ask g A:6 memo nowait", "no"},
	}, "f [] {f m:A:5 h}"},

	{"a look leaves the copy of a value that is there, or whose TTL has ended", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A a old 5000 60000", "1, notif old"},
		{"look", ""},
		{"redis DEL x:n", ""},
		{"pass 5002", ""},
		{"look", ""},
		{"ask b B:1 memo", "granted, owner b"},
		{"ask c A:2 memo", "stale old"},
		{"forget A", "1, lost b"},
		{"ask d A:3 memo", "granted, owner d"},
		{"ask e A:4 memo nowait", "no"},
	}, "d [] {d m:A:3 h}"},

	{"a rejection that is kept for everyone ends the stale value, another does not", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"resolve A a old 5000 60000", "1, notif old"},
		{"pass 5002", ""},
		{"redis DEL x:n", ""},
		{"ask b B:1 memo", "granted, owner b"},
		{"reject B b no", "1"},
		{"ask c A:2 memo", "granted, owner c"},
		{"ask d A:3 memo", "stale old"},
		{"reject A c no 1000", "1"},
		{"ask d A:4 memo", "rejected no"},
		{"redis DEL x/error:n", ""},
		{"ask d A:5 memo", "granted, owner d"},
		{"ask e A:6 memo nowait", "no"},
	}, "d [] {d m:A:5 h}"},

	{"who stands in line leaves it with the stale value, and a free lock goes on", []act{
		{"live A B", ""},
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"ask c B:1", "wait"},
		{"redis SET x/stale:n 1<2<old", ""},
		{"ask b A:2 memo again", "stale old, ring B:1"},
		{"expire lock", ""},
		{"ask d A:3 memo", "stale old, watch, owner c, ring B:1"},
		{"redis SET x/stale:n odd", ""},
		{"ask d A:4 memo", "wait first"},
		{"forget B", "1"},
	}, "c [d=m:A:4] {c l:B:1 p}"},

	{"a generator that gives up promotes the next", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"ask c A:3 memo", "wait"},
		{"release A a", "1, own A:2, own A:3, owner b"},
		{"ask b A:2 memo again", "granted"},
	}, "b [c=m:A:3] {b m:A:2 h}"},

	{"who is promoted and finds a value hands the lock on and is served", []act{
		{"ask a A:1", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"ask c A:3", "wait"},
		{"redis SET x:n v", ""},
		{"release A a", "1, own A:2, own A:3, owner b"},
		{"ask b A:2 memo again", "value v, own A:3, owner c"},
	}, "c [] {c l:A:3 p}"},

	{"who waits and finds a value leaves the line", []act{
		{"ask a A:1 memo", "granted, owner a"},
		{"ask b A:2 memo", "wait first"},
		{"ask c A:3 memo", "wait"},
		{"redis SET x:n v", ""},
		{"ask b A:2 memo again", "value v, own A:3"},
		{"ask c A:3 memo again", "value v"},
	}, "a [] {a m:A:1 h}"},
}

func TestScripts(t *testing.T) {
	onBoth(t, func(t *testing.T, b *backend) {
		for _, sc := range scenarios {
			t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
				b.do("FLUSHALL")
				st := newStage(t, b)
				for i, a := range sc.acts {
					if got := st.play(a.step); got != a.want {
						t.Fatalf("step %d, %s:\n got %q\nwant %q\nstate %s", i+1, a.step, got, a.want, st.state())
					}
				}
				if got := st.state(); got != sc.state {
					t.Errorf("in the end\n got %s\nwant %s", got, sc.state)
				}
				for _, key := range []string{st.keys.lock, st.keys.queue, st.keys.waiting, st.keys.fence} {
					if ttl := b.do("PTTL", key); ttl == int64(-1) {
						t.Errorf("%s has no TTL", key)
					}
				}
			})
		}
	})
}
