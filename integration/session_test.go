package integration

import (
	"testing"
)

func TestSessionStateIsRedisOwn(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		p := startPair(t, v)
		p.checkThoroughly(t, transactions())
		p.checkThoroughly(t, databases())
		p.checkThoroughly(t, rights())
		p.checkThoroughly(t, tracking())
		p.checkThoroughly(t, clientCommands())
	})
}

func transactions() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"MULTI and EXEC":                           lines("MULTI", "SET k v", "GET k", "INCR n", "EXEC", "GET k"),
		"an empty transaction":                     lines("MULTI", "EXEC", "PING"),
		"DISCARD":                                  lines("MULTI", "SET k v", "DISCARD", "GET k", "EXEC"),
		"EXEC and DISCARD without MULTI":           lines("EXEC", "DISCARD", "PING"),
		"MULTI within MULTI":                       lines("MULTI", "MULTI", "PING", "EXEC", "PING"),
		"WATCH within MULTI":                       lines("MULTI", "WATCH k", "PING", "EXEC", "PING"),
		"an unknown command within MULTI":          lines("MULTI", "FOO", "PING", "EXEC", "PING", "MULTI", "PING", "EXEC"),
		"a wrong number of arguments within MULTI": lines("MULTI", "GET", "EXEC", "PING"),
		"an error at EXEC":                         lines("SET k v", "MULTI", "LPUSH k x", "GET k", "INCR k", "EXEC", "PING"),
		"a KS command within MULTI":                lines("MULTI", "SET k v", "KS.LOCK name", "EXEC", "GET k", "PING"),
		"KS commands within MULTI, then DISCARD":   lines("MULTI", "KS.HELP", "KS.UNLOCK a b", "DISCARD", "KS.HELP", "MULTI", "PING", "EXEC"),
		"a KS command behind EXEC":                 lines("MULTI", "PING", "EXEC", "KS.HELP", "MULTI", "PING", "DISCARD", "KS.HELP"),
		"a KS command between WATCH and MULTI":     lines("WATCH k", "KS.HELP", "MULTI", "SET k v", "EXEC", "GET k"),
		"MULTI with arguments":                     lines("MULTI x", "EXEC x", "DISCARD x", "PING", "KS.HELP"),
		"arguments behind EXEC inside MULTI":       lines("MULTI", "PING", "EXEC x", "EXEC", "PING"),
		"SELECT within MULTI":                      lines("MULTI", "SELECT 2", "SET k v", "EXEC", "GET k", "SELECT 0", "GET k"),
		"a failed SELECT within MULTI":             lines("MULTI", "SELECT 99", "SET k v", "EXEC", "GET k"),
		"AUTH within MULTI":                        lines("MULTI", "AUTH x", "AUTH default x", "EXEC", "PING"),
		"scripts within MULTI":                     lines("MULTI") + command("EVAL", "return {1,{2}}", "0") + command("EVAL", "return redis.call('nosuch')", "0") + lines("EXEC", "PING"),
		"WATCH of one's own change":                lines("WATCH k", "SET k v", "MULTI", "GET k", "EXEC", "PING"),
		"UNWATCH":                                  lines("WATCH k", "UNWATCH", "SET k v", "MULTI", "GET k", "EXEC"),
		"nested arrays within EXEC":                lines("MULTI", "LRANGE l 0 -1", "HGETALL h", "CONFIG GET maxmemory-policy", "COMMAND INFO get", "EXEC", "PING"),
		"a transaction cut off by QUIT":            lines("MULTI", "SET k v", "QUIT", "EXEC"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return append(all,
		scenario{name: "WATCH of another's change", steps: []step{
			send("a", lines("WATCH k", "GET k", "MULTI", "SET k a")), send("b", lines("SET k b")), send("a", lines("EXEC", "GET k", "PING")),
		}},
		scenario{name: "WATCH of another's change in RESP3", steps: []step{
			send("a", lines("HELLO 3", "WATCH k", "GET k", "MULTI", "SET k a")), send("b", lines("SET k b")), send("a", lines("EXEC", "GET k", "PING")),
		}},
		scenario{name: "a transaction that others do not see half done", steps: []step{
			send("a", lines("MULTI", "SET k a")), send("b", lines("GET k")), send("a", lines("SET l a", "EXEC")), send("b", lines("MGET k l")),
		}},
	)
}

func databases() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"SELECT":                   lines("SET k 0", "SELECT 1", "GET k", "SET k 1", "SELECT 0", "GET k", "SELECT 15", "GET k"),
		"SELECT of no database":    lines("SELECT 16", "SELECT -1", "SELECT x", "SELECT", "SELECT 1 2", "SET k v", "GET k"),
		"SWAPDB":                   lines("SET k 0", "SWAPDB 0 1", "GET k", "SELECT 1", "GET k", "SWAPDB 0 1", "GET k"),
		"MOVE and COPY":            lines("SET k v", "COPY k l DB 2", "MOVE k 1", "GET k", "SELECT 1", "GET k", "SELECT 2", "GET l"),
		"FLUSHDB":                  lines("SET k v", "SELECT 1", "SET k v", "FLUSHDB", "GET k", "SELECT 0", "GET k"),
		"SELECT behind SELECT":     lines("SELECT 3", "SELECT 4", "SET k v", "SELECT 99", "GET k", "SELECT 3", "GET k"),
		"RESET goes to database 0": lines("SELECT 3", "SET k v", "RESET", "GET k"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return all
}

// rights: what a user may do is Redis's business, on the user's own connection.
func rights() []scenario {
	const bob = "ACL SETUSER bob on >pw ~a* &c* +@all -@admin -keys +acl|whoami"
	var all []scenario
	for name, data := range map[string]string{
		"a user's keys":              lines("AUTH bob pw", "SET a1 v", "GET a1", "GET b", "SET b v", "MGET a1 b", "ACL WHOAMI"),
		"a user's commands":          lines("AUTH bob pw", "KEYS *", "CONFIG GET x", "CLIENT KILL ID 1", "PING"),
		"a user's channels":          lines("AUTH bob pw", "SUBSCRIBE d", "SUBSCRIBE c1 d", "PSUBSCRIBE *", "SSUBSCRIBE d", "PUBLISH d x", "PING", "SUBSCRIBE c1", "PING"),
		"a user inside MULTI":        lines("AUTH bob pw", "MULTI", "SET a v", "SET b v", "EXEC", "PING", "MULTI", "SET a v", "EXEC"),
		"a user's scripts":           lines("AUTH bob pw") + command("EVAL", "return redis.pcall('GET', KEYS[1])", "1", "b") + command("EVAL", "return redis.call('GET', KEYS[1])", "1", "a"),
		"another user on the way":    lines("SET b v", "AUTH bob pw", "GET b", "AUTH default x", "GET b", "RESET", "GET b"),
		"AUTH fails and changes not": lines("AUTH bob wrong", "ACL WHOAMI", "AUTH bob pw", "AUTH bob wrong", "ACL WHOAMI", "AUTH nobody x", "ACL WHOAMI"),
		"HELLO with AUTH":            lines("HELLO 3 AUTH bob pw SETNAME me", "ACL WHOAMI", "CLIENT GETNAME", "GET b", "HELLO 2 AUTH bob wrong", "ACL WHOAMI", "GET a"),
	} {
		for _, sc := range inBoth(name, data) {
			sc.admin = []string{bob}
			sc.restore = []string{"ACL DELUSER bob", "ACL LOG RESET"}
			all = append(all, sc)
		}
	}
	revoked := scenario{name: "a subscriber loses its channel's right", admin: []string{bob}, restore: []string{"ACL DELUSER bob"}, steps: []step{
		send("a", lines("AUTH bob pw", "SUBSCRIBE c1")), admin("ACL SETUSER bob resetchannels"), send("b", lines("PUBLISH c1 x")),
	}}
	changed := scenario{name: "a user's rights change under way", admin: []string{bob}, restore: []string{"ACL DELUSER bob"}, steps: []step{
		send("a", lines("AUTH bob pw", "GET a")), admin("ACL SETUSER bob -get"), send("a", lines("GET a", "PING")),
	}}
	return append(all, revoked, changed)
}

func tracking() []scenario {
	both := func(name, first string, then ...step) scenario {
		return scenario{name: name, steps: append([]step{send("a", first)}, then...)}
	}
	return []scenario{
		both("tracking of keys that were read", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "GET l"), send("b", lines("SET k v", "SET k w", "SET l v")), send("a", lines("PING", "GET k"))),
		both("tracking sees one's own writes", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "SET k v", "PING", "GET k", "INCR k", "DEL k")),
		both("tracking without one's own writes", lines("HELLO 3", "CLIENT TRACKING ON NOLOOP", "GET k", "SET k v", "PING"), send("b", lines("SET k w"))),
		atOnce(both("tracking by broadcast", lines("HELLO 3", "CLIENT TRACKING ON BCAST PREFIX k PREFIX l"), send("b", lines("SET k1 v", "SET x v", "MSET l1 v k2 v", "DEL k1")), send("a", lines("SET k3 v", "PING")))),
		both("tracking inside EXEC", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "MULTI", "GET l", "SET k v", "SET l v", "EXEC", "PING")),
		both("tracking by opting in", lines("HELLO 3", "CLIENT TRACKING ON OPTIN", "GET k", "CLIENT CACHING YES", "GET l", "GET m"), send("b", lines("MSET k v l v m v")), send("a", lines("PING"))),
		both("tracking by opting out", lines("HELLO 3", "CLIENT TRACKING ON OPTOUT", "CLIENT CACHING NO", "GET k", "GET l"), send("b", lines("MSET k v l v"))),
		both("tracking and FLUSHALL", lines("HELLO 3", "CLIENT TRACKING ON", "GET k"), send("b", lines("SET k v", "FLUSHALL")), send("a", lines("GET k", "FLUSHDB", "PING"))),
		both("tracking while blocked", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "BLPOP l 0", "PING"), send("b", lines("SET k v", "RPUSH l x"))),
		both("tracking behind a KS command", lines("HELLO 3", "CLIENT TRACKING ON", "KS.HELP", "GET k", "KS.HELP"), send("b", lines("SET k v")), send("a", lines("KS.HELP", "PING"))),
		both("tracking with replies off", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "CLIENT REPLY OFF", "SET k v", "GET k", "CLIENT REPLY ON"), send("b", lines("SET k w"))),
		both("tracking in RESP2 is silent", lines("CLIENT TRACKING ON", "GET k"), send("b", lines("SET k v")), send("a", lines("PING", "CLIENT TRACKING OFF", "PING"))),
		both("tracking redirected to a RESP3 client", "", send("b", lines("HELLO 3")), send("a", lines("CLIENT TRACKING ON REDIRECT {id:b}", "GET k", "CLIENT TRACKING OFF", "PING")), send("c", lines("SET k v"))),
		both("tracking redirected to a RESP2 subscriber", "", send("b", lines("SUBSCRIBE __redis__:invalidate")), send("a", lines("CLIENT TRACKING ON REDIRECT {id:b}", "GET k")), send("c", lines("SET k v", "FLUSHALL")), send("b", lines("PING"))),
		both("the client that tracking is redirected to goes away", lines("HELLO 3"), send("b", lines("HELLO 3")), send("a", lines("CLIENT TRACKING ON REDIRECT {id:b}", "GET k")), halfClose("b"), send("c", lines("SET k v")), send("a", lines("GET k", "PING"))),
		both("wrong forms of tracking", lines("CLIENT TRACKING", "CLIENT TRACKING MAYBE", "CLIENT TRACKING ON REDIRECT 999999", "CLIENT CACHING YES", "CLIENT TRACKING ON OPTIN OPTOUT", "CLIENT TRACKING ON PREFIX x", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "HELLO 3", "CLIENT TRACKINGINFO")),
		both("tracking is left by RESET", lines("HELLO 3", "CLIENT TRACKING ON", "GET k", "RESET", "PING"), send("b", lines("SET k v")), send("a", lines("PING"))),
	}
}

// atOnce leaves the input of sc as it is: Redis sends what it broadcasts once
// per round of its event loop, so where that stands among the replies depends on
// how much of the input it has read at once.
func atOnce(sc scenario) scenario {
	sc.uncut, sc.withoutKS = true, true
	return sc
}

func clientCommands() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"a client's name":                      lines("CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT SETNAME 'a b'", "CLIENT SETNAME ''", "CLIENT GETNAME"),
		"CLIENT INFO of a new client":          lines("CLIENT INFO"),
		"CLIENT INFO behind commands":          lines("CLIENT SETNAME me", "SELECT 3", "WATCH k", "CLIENT NO-EVICT ON", "CLIENT INFO", "MULTI", "CLIENT INFO", "EXEC"),
		"CLIENT INFO of a subscriber in RESP3": lines("HELLO 3", "SUBSCRIBE a b", "PSUBSCRIBE p*", "SSUBSCRIBE s", "CLIENT INFO"),
		"CLIENT INFO behind a KS command":      lines("CLIENT INFO", "KS.HELP", "CLIENT INFO"),
		"commands of newer servers":            lines("CLIENT SETINFO LIB-NAME x", "CLIENT SETINFO LIB-VER 1", "CLIENT MAINT_NOTIFICATIONS ON", "CLIENT NO-TOUCH ON", "WAITAOF 0 0 0", "PING"),
		"CLIENT NO-EVICT":                      lines("CLIENT NO-EVICT ON", "CLIENT NO-EVICT", "CLIENT NO-EVICT MAYBE", "CLIENT NO-EVICT OFF"),
		"cluster commands without a cluster":   lines("CLUSTER INFO", "READONLY", "READWRITE", "ASKING", "CLUSTER SLOTS", "PING"),
		"ROLE and OBJECT":                      lines("ROLE", "SET k v", "OBJECT ENCODING k", "OBJECT REFCOUNT k"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return append(all, scenario{name: "CLIENT LIST of another client", withoutKS: true, steps: []step{
		send("a", lines("CLIENT SETNAME me", "SELECT 2", "MULTI", "PING")), send("b", lines("CLIENT LIST ID {id:a}")),
		send("a", lines("EXEC")), send("b", lines("CLIENT LIST ID {id:a}")),
	}})
}
