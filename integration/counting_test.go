package integration

import (
	"strings"
	"testing"
)

func TestEveryReplyIsCountedWhateverTheCommand(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		p := startPair(t, v)
		p.checkThoroughly(t, replyModes())
		p.checkThoroughly(t, subscriptions())
		p.checkThoroughly(t, resets())
		p.checkThoroughly(t, feeds())
		p.checkThoroughly(t, farewells())
		p.checkThoroughly(t, blocking())
		p.checkThoroughly(t, busyRedis())
		p.checkThoroughly(t, replicaCommands())
	})
}

// TestAnyOrderOfReplyModes tries all sequences of three out of everything that
// has to do with CLIENT REPLY.
func TestAnyOrderOfReplyModes(t *testing.T) {
	p := startPair(t, variants[len(variants)-1])
	words := []string{
		"CLIENT REPLY OFF", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "PING x", "", "RESET",
		"CLIENT REPLY FOO", "CLIENT REPLY", "SUBSCRIBE a", "HELLO 3", "KS.HELP", "MULTI",
	}
	for _, first := range words {
		for _, second := range words {
			for _, third := range words {
				data := lines(first, second, third, "PING 1", "PING 2", "KS.HELP", "CLIENT REPLY ON", "PING 3")
				sc := single(first+", "+second+", "+third, data)
				if m := p.run(t, sc); m != nil {
					t.Errorf("%v\nscenario:\n%v", m, sc)
				}
			}
		}
	}
	t.Logf("%d sequences; allowed:%v", len(words)*len(words)*len(words), p.allowed)
}

func replyModes() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"no replies between OFF and ON":               lines("PING 1", "CLIENT REPLY OFF", "PING 2", "SET k v", "FOO", "GET", "CLIENT REPLY ON", "GET k", "PING 3"),
		"SKIP silences one command":                   lines("CLIENT REPLY SKIP", "PING 1", "PING 2"),
		"SKIP before SKIP":                            lines("CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING 1", "PING 2"),
		"SKIP before ON":                              lines("CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING 1"),
		"SKIP before OFF":                             lines("CLIENT REPLY SKIP", "CLIENT REPLY OFF", "PING 1", "CLIENT REPLY ON", "PING 2"),
		"SKIP under OFF":                              lines("CLIENT REPLY OFF", "CLIENT REPLY SKIP", "PING 1", "CLIENT REPLY ON", "PING 2", "PING 3"),
		"SKIP before an error":                        lines("CLIENT REPLY SKIP", "FOO", "PING", "CLIENT REPLY SKIP", "GET", "PING"),
		"SKIP before a wrong form":                    lines("CLIENT REPLY SKIP", "CLIENT REPLY FOO", "PING 1", "PING 2", "CLIENT REPLY SKIP", "CLIENT REPLY", "PING 1"),
		"SKIP before MULTI":                           lines("CLIENT REPLY SKIP", "MULTI", "PING 1", "EXEC", "PING 2"),
		"SKIP before EXEC":                            lines("MULTI", "PING 1", "PING 2", "CLIENT REPLY ON", "EXEC", "CLIENT REPLY SKIP", "MULTI", "PING", "EXEC"),
		"SKIP before SUBSCRIBE":                       lines("CLIENT REPLY SKIP", "SUBSCRIBE a b", "PING", "UNSUBSCRIBE"),
		"SKIP before a large reply":                   command("SET", "k", strings.Repeat("x", 100000)) + lines("CLIENT REPLY SKIP", "GET k", "PING"),
		"SKIP before QUIT":                            lines("CLIENT REPLY SKIP", "QUIT", "PING"),
		"SKIP before HELLO":                           lines("CLIENT REPLY SKIP", "HELLO 3", "GET none", "CLIENT REPLY SKIP", "HELLO 2", "GET none"),
		"SKIP before RESET":                           lines("CLIENT REPLY SKIP", "RESET", "PING 1", "PING 2"),
		"SKIP before a script":                        lines("CLIENT REPLY SKIP") + command("EVAL", "return {1,2}", "0") + lines("PING"),
		"SKIP before MONITOR":                         lines("CLIENT REPLY SKIP", "MONITOR", "PING"),
		"SKIP before AUTH and SELECT":                 lines("CLIENT REPLY SKIP", "SELECT 1", "SET k v", "CLIENT REPLY SKIP", "AUTH x", "GET k", "SELECT 0", "GET k"),
		"SKIP in any case, as an array":               command("client", "reply", "skip") + lines("PING 1", "PING 2"),
		"wrong forms reply":                           lines("CLIENT REPLY", "CLIENT REPLY FOO", "CLIENT REPLY ON x", "CLIENT REPLY OFFX", "CLIENT  REPLY ON", "PING"),
		"ON twice":                                    lines("CLIENT REPLY ON", "CLIENT REPLY ON", "PING"),
		"OFF twice":                                   lines("CLIENT REPLY OFF", "CLIENT REPLY OFF", "PING", "CLIENT REPLY ON", "PING"),
		"subscribing under OFF":                       lines("CLIENT REPLY OFF", "SUBSCRIBE a b", "PSUBSCRIBE p*", "UNSUBSCRIBE a", "PING", "CLIENT REPLY ON", "RESET", "PING"),
		"messages under OFF":                          lines("CLIENT REPLY OFF", "SUBSCRIBE a", "UNSUBSCRIBE", "PUBLISH a x", "CLIENT REPLY ON", "PING"),
		"messages under OFF in RESP3":                 lines("HELLO 3", "SUBSCRIBE a", "CLIENT REPLY OFF", "PUBLISH a x", "PING", "CLIENT REPLY ON", "PUBLISH a y"),
		"QUIT under OFF":                              lines("CLIENT REPLY OFF", "QUIT", "PING"),
		"HELLO 3 under OFF":                           lines("CLIENT REPLY OFF", "HELLO 3", "CLIENT REPLY ON", "GET none", "PING"),
		"HELLO 2 under OFF":                           lines("HELLO 3", "CLIENT REPLY OFF", "HELLO 2", "CLIENT REPLY ON", "GET none", "PING"),
		"a wrong HELLO under OFF":                     lines("CLIENT REPLY OFF", "HELLO 9", "CLIENT REPLY ON", "GET none", "PING"),
		"SELECT under OFF":                            lines("CLIENT REPLY OFF", "SELECT 2", "SET k v", "CLIENT REPLY ON", "GET k", "SELECT 0", "GET k"),
		"MULTI under OFF":                             lines("CLIENT REPLY OFF", "MULTI", "PING 1", "EXEC", "CLIENT REPLY ON", "PING 2"),
		"MULTI begun under OFF":                       lines("CLIENT REPLY OFF", "MULTI", "SET k v", "CLIENT REPLY ON", "EXEC", "PING", "GET k"),
		"EXEC under OFF":                              lines("MULTI", "SET k v", "EXEC", "CLIENT REPLY OFF", "MULTI", "SET k w", "EXEC", "CLIENT REPLY ON", "GET k"),
		"RESET under OFF":                             lines("CLIENT REPLY OFF", "PING 1", "RESET", "PING 2"),
		"MONITOR under OFF":                           lines("CLIENT REPLY OFF", "MONITOR", "PING 1", "CLIENT REPLY ON", "PING 2"),
		"a protocol error under OFF":                  lines("CLIENT REPLY OFF", "PING 1") + "*1\r\n:1\r\n",
		"thousands of commands under OFF":             lines("CLIENT REPLY OFF") + strings.Repeat(lines("INCR n"), 3000) + lines("CLIENT REPLY ON", "GET n"),
		"blocking under OFF":                          lines("RPUSH l a", "CLIENT REPLY OFF", "BLPOP l 0", "CLIENT REPLY ON", "LLEN l"),
		"a lock taken and freed under OFF":            lines("CLIENT REPLY OFF", "KS.LOCK name NOWAIT", "CLIENT REPLY ON", "PING"),
		"a lock under SKIP":                           lines("CLIENT REPLY SKIP", "KS.LOCK name NOWAIT", "PING 1", "PING 2"),
		"a KS command that fails under SKIP":          lines("CLIENT REPLY SKIP", "KS.LOCK", "PING 1", "CLIENT REPLY SKIP", "KS.NOSUCH", "PING 2"),
		"several KS commands under OFF and with SKIP": lines("CLIENT REPLY OFF", "KS.HELP", "KS.HELP", "CLIENT REPLY SKIP", "KS.HELP", "CLIENT REPLY ON", "KS.HELP", "CLIENT REPLY SKIP", "KS.HELP", "KS.HELP"),
	} {
		sc := single(name, data)
		sc.pipes = unseen[name]
		all = append(all, sc)
	}
	return all
}

// unseen names what changes a connection without a word of Redis about it.
var unseen = map[string]string{
	"MONITOR under OFF":            "whether the feed has begun cannot be seen",
	"SKIP before MONITOR":          "whether the feed has begun cannot be seen",
	"SKIP before RESET":            "whether RESET was carried out cannot be seen",
	"SKIP before SUBSCRIBE":        "in RESP2, messages cannot be told from replies that never come",
	"subscribing under OFF":        "in RESP2, messages cannot be told from replies that never come",
	"messages under OFF":           "in RESP2, messages cannot be told from replies that never come",
	"HELLO 3 under OFF":            "the protocol version cannot be seen",
	"HELLO 2 under OFF":            "the protocol version cannot be seen",
	"RESET with one reply skipped": "whether RESET was carried out cannot be seen",
}

func subscriptions() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"one acknowledgement for each channel":               lines("SUBSCRIBE a b c", "UNSUBSCRIBE a b", "PING", "UNSUBSCRIBE c", "GET none"),
		"the same channel again":                             lines("SUBSCRIBE a a", "SUBSCRIBE a", "UNSUBSCRIBE a a", "PING"),
		"unsubscribing from everything":                      lines("SUBSCRIBE a b c", "UNSUBSCRIBE", "PING", "GET none"),
		"unsubscribing from nothing":                         lines("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE x y", "PUNSUBSCRIBE x", "SUNSUBSCRIBE x y", "PING"),
		"channels and patterns share a count":                lines("SUBSCRIBE a", "PSUBSCRIBE p*", "UNSUBSCRIBE", "PING", "PUNSUBSCRIBE", "PING"),
		"channels and patterns unsubscribed the other way":   lines("SUBSCRIBE a", "PSUBSCRIBE p* q*", "PUNSUBSCRIBE", "PING", "UNSUBSCRIBE", "GET none"),
		"shard channels have a count of their own":           lines("SSUBSCRIBE s", "SUBSCRIBE a", "SSUBSCRIBE t", "UNSUBSCRIBE", "PING", "SUNSUBSCRIBE", "PING"),
		"errors instead of acknowledgements":                 lines("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "PING", "SUBSCRIBE a", "SUBSCRIBE", "PING"),
		"commands refused while subscribed":                  lines("SUBSCRIBE a", "GET k", "SET k v", "MULTI", "EXEC", "PUBLISH a x", "CLIENT REPLY OFF", "SELECT 1", "HELLO 3", "FOO", "PING", "PING x", "UNSUBSCRIBE", "GET k"),
		"QUIT while subscribed":                              lines("SUBSCRIBE a", "QUIT", "PING"),
		"RESET while subscribed":                             lines("SUBSCRIBE a b", "PSUBSCRIBE p*", "RESET", "PING", "GET none"),
		"channels with odd names":                            command("SUBSCRIBE", "", "\r\n", "a\x00b") + command("UNSUBSCRIBE", "", "\r\n", "a\x00b") + lines("PING"),
		"a hundred channels":                                 lines("SUBSCRIBE"+strings.Repeat(" x", 100), "PING", "UNSUBSCRIBE"+strings.Repeat(" x", 100), "PING"),
		"KS commands while subscribed":                       lines("SUBSCRIBE a", "KS.HELP", "KS.LOCK", "KS.LOCK a NOWAIT", "PING", "UNSUBSCRIBE", "KS.HELP", "PING"),
		"changing to RESP3 behind a subscription that ended": lines("SUBSCRIBE a", "UNSUBSCRIBE a", "HELLO 3", "SUBSCRIBE a", "GET none", "HELLO 2", "GET none", "PING"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return append(all, messages()...)
}

func messages() []scenario {
	subscriber := func(first string) []step {
		return []step{
			send("a", first, lines("SUBSCRIBE a b", "PSUBSCRIBE b*", "SSUBSCRIBE s")),
			send("b", lines("PUBLISH a 1", "PUBLISH b 2", "SPUBLISH s 3", "PUBLISH none 4", "PUBSUB NUMSUB a b", "PUBSUB NUMPAT", "PUBSUB SHARDNUMSUB s")),
			send("a", lines("PING", "UNSUBSCRIBE a")),
			send("b", lines("PUBLISH a 5", "PUBLISH b 6")),
			send("a", lines("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING", "GET none")),
			send("b", lines("PUBLISH a 7", "PUBLISH b 8", "SPUBLISH s 9")),
		}
	}
	large := command("PUBLISH", "a", strings.Repeat("m", 300000))
	return []scenario{
		{name: "messages from another client", steps: subscriber("")},
		{name: "messages from another client in RESP3", steps: subscriber(lines("HELLO 3"))},
		{name: "messages between the replies of a RESP3 client", steps: []step{
			send("a", lines("HELLO 3", "SUBSCRIBE a", "PING 1")),
			send("b", lines("PUBLISH a x")),
			send("a", lines("PING 2", "MULTI", "PING 3")),
			send("b", lines("PUBLISH a y")),
			send("a", lines("EXEC", "PING 4")),
		}},
		{name: "a message while a RESP3 client is blocked", steps: []step{
			send("a", lines("HELLO 3", "SUBSCRIBE a", "BLPOP l 0", "PING")),
			send("b", lines("PUBLISH a x", "RPUSH l v", "PUBLISH a y")),
		}},
		{name: "large messages", steps: []step{
			send("a", lines("SUBSCRIBE a")), send("b", strings.Repeat(large, 5)), send("a", lines("PING")),
		}},
		{name: "ten thousand small messages", steps: []step{
			send("a", lines("SUBSCRIBE a")), send("b", strings.Repeat(lines("PUBLISH a x"), 10000)), send("a", lines("PING")),
		}},
		{name: "a subscriber that resets its connection", steps: []step{
			send("a", lines("SUBSCRIBE a")), reset("a"), send("b", lines("PUBSUB NUMSUB a", "PUBLISH a x")),
		}},
		{name: "a subscriber that half-closes", steps: []step{
			send("a", lines("SUBSCRIBE a")), halfClose("a"), send("b", lines("PUBSUB NUMSUB a", "PUBLISH a x")),
		}},
		{name: "keyspace notifications", admin: []string{"CONFIG SET notify-keyspace-events KEA"}, restore: []string{"CONFIG SET notify-keyspace-events ''"}, steps: []step{
			send("a", lines("PSUBSCRIBE __key*")), send("b", lines("SET k v", "DEL k", "LPUSH l a")),
			send("a", lines("PING")),
		}},
	}
}

func resets() []scenario {
	var all []scenario
	for name, before := range map[string]string{
		"in the default state":       "",
		"in MULTI":                   lines("MULTI", "SET k v"),
		"with a watched key":         lines("WATCH k"),
		"in another database":        lines("SELECT 3", "SET k v"),
		"while subscribed in RESP3":  lines("HELLO 3", "SUBSCRIBE a", "PSUBSCRIBE p*", "SSUBSCRIBE s"),
		"with a name":                lines("CLIENT SETNAME me"),
		"with replies off":           lines("CLIENT REPLY OFF"),
		"with one reply skipped":     lines("CLIENT REPLY SKIP"),
		"as a monitor":               lines("MONITOR"),
		"with tracking":              lines("HELLO 3", "CLIENT TRACKING ON"),
		"in RESP3":                   lines("HELLO 3"),
		"with no-evict":              lines("CLIENT NO-EVICT ON"),
		"in MULTI that will abort":   lines("MULTI", "FOO"),
		"behind replies in flight":   strings.Repeat(lines("PING"), 100),
		"behind another RESET":       lines("RESET"),
		"behind a failed RESET form": lines("RESET x"),
	} {
		after := lines("RESET", "GET k", "CLIENT GETNAME", "CLIENT INFO", "EXEC", "PING", "HELLO 3", "GET none")
		sc := single("RESET "+name, before+after)
		sc.pipes = unseen[sc.name]
		all = append(all, sc)
	}
	return all
}

func feeds() []scenario {
	return []scenario{
		single("MONITOR sees its own commands", lines("MONITOR", "PING", "GET k", "SET k v", "SELECT 1", "PING")),
		single("MONITOR sees its own commands in RESP3", lines("HELLO 3", "MONITOR", "PING", "GET k", "ECHO x")),
		single("MONITOR ends by RESET", lines("MONITOR", "PING", "RESET", "PING", "GET k")),
		single("MONITOR ends by QUIT", lines("MONITOR", "PING", "QUIT", "PING")),
		single("MONITOR and SUBSCRIBE", lines("MONITOR", "SUBSCRIBE a", "PING", "RESET", "PING")),
		single("MONITOR twice", lines("MONITOR", "MONITOR", "PING")),
		{name: "MONITOR sees what others do", steps: []step{
			send("a", lines("MONITOR")),
			send("b", lines("SET k v", "GET k", "SELECT 2", "MULTI", "INCR n", "EXEC"), command("EVAL", "return redis.call('GET', KEYS[1])", "1", "k"), command("ECHO", "a\r\n\x00\"b")),
			send("a", lines("PING")),
			send("b", lines("AUTH x", "HELLO 3", "CONFIG GET maxmemory-policy", "FOO")),
			send("a", lines("RESET", "PING", "GET k")),
			send("b", lines("SET k w")),
		}},
		{name: "a thousand lines of MONITOR between replies", steps: []step{
			send("a", lines("MONITOR")),
			send("b", strings.Repeat(lines("INCR n"), 1000)),
			send("a", strings.Repeat(lines("PING"), 100)),
		}},
	}
}

// farewells: ways for a connection to end.
func farewells() []scenario {
	all := []scenario{
		single("QUIT drops what is pipelined behind it", lines("PING 1", "SET k v", "QUIT", "SET k w", "PING 2")),
		single("QUIT as an array with arguments", lines("PING")+command("quit", "now")+command("PING")),
		single("QUIT behind large replies", command("SET", "k", strings.Repeat("x", 300000))+lines("GET k", "GET k", "QUIT", "GET k")),
		single("QUIT with half a request behind it", lines("QUIT")+"*2\r\n$4\r\nEC"),
		{name: "QUIT, then more input", steps: []step{send("a", lines("PING", "QUIT")), send("a", lines("PING"))}},
		{name: "CLIENT KILL of oneself", steps: []step{send("a", lines("CLIENT KILL ID {id:a} SKIPME no", "PING"))}},
		{name: "CLIENT KILL of nobody", steps: []step{send("a", lines("CLIENT KILL ID 999999999", "CLIENT KILL 1.2.3.4:5", "CLIENT KILL ID {id:a}", "PING"))}},
		{name: "CLIENT KILL by another", steps: []step{
			send("a", lines("PING")), send("b", lines("CLIENT KILL ID {id:a}", "PING")), send("a", lines("PING")),
		}},
		{name: "CLIENT KILL of a subscriber", steps: []step{
			send("b", lines("CLIENT KILL ID {id:a} TYPE pubsub", "PING")), send("a", lines("SUBSCRIBE a")),
			send("b", lines("CLIENT KILL ID {id:a} TYPE pubsub", "PING")),
		}},
		{name: "CLIENT KILL of a client that is blocked", steps: []step{
			send("b", lines("CLIENT ID {id:a}")), send("a", lines("BLPOP l 0", "PING")), send("b", lines("CLIENT KILL ID {id:a}", "LPUSH l x")),
		}},
		{name: "a deleted user's connections end", admin: []string{"ACL SETUSER bob on >pw ~* &* +@all"}, steps: []step{
			send("a", lines("AUTH bob pw", "SET k v")), send("b", lines("CLIENT KILL USER bob", "GET k")),
		}, restore: []string{"ACL DELUSER bob"}},
		{name: "ACL DELUSER ends connections", admin: []string{"ACL SETUSER bob on >pw ~* &* +@all"}, steps: []step{
			send("a", lines("AUTH bob pw", "SET k v", "SUBSCRIBE a")), admin("ACL DELUSER bob"), send("b", lines("GET k")),
		}},
		{name: "half-close behind a hundred commands", steps: []step{sendLast("a", strings.Repeat(lines("PING"), 100))}},
		{name: "half-close behind a KS command", steps: []step{sendLast("a", lines("PING", "KS.HELP", "PING 2"))}},
		{name: "half-close behind thousands of commands", steps: []step{sendLast("a", strings.Repeat(lines("INCR n"), 5000))}},
		{name: "half-close behind a blocking command", steps: []step{sendLast("a", lines("PING", "BLPOP none 0", "PING"))}},
		{name: "half-close behind half a request", steps: []step{sendLast("a", lines("PING")+"*2\r\n$4\r\nEC")}},
		{name: "half-close behind half an inline request", steps: []step{sendLast("a", "PING\r\nPIN")}},
		{name: "half-close behind half a KS command", steps: []step{sendLast("a", "PING\r\n*1\r\n$7\r\nKS.HE")}},
		{name: "half-close without a word", steps: []step{halfClose("a")}},
		{name: "half-close in MULTI", steps: []step{send("a", lines("MULTI", "SET k v")), halfClose("a"), send("b", lines("GET k"))}},
		{name: "half-close with replies off", steps: []step{sendLast("a", lines("CLIENT REPLY OFF", "SET k v")), send("b", lines("GET k"))}},
		{name: "half-close of a monitor", steps: []step{send("a", lines("MONITOR")), halfClose("a"), send("b", lines("PING"))}},
		{name: "half-close behind QUIT", steps: []step{sendLast("a", lines("PING", "QUIT", "PING"))}},
		{name: "half-close behind a protocol error", steps: []step{sendLast("a", lines("PING")+"*x\r\n")}},
		{name: "half-close while Redis sleeps", steps: []step{sendLast("a", lines("DEBUG SLEEP 0.05", "PING"))}},
		{name: "reset without a word", steps: []step{send("a", ""), reset("a"), send("b", lines("PING"))}},
		{name: "reset in MULTI", steps: []step{send("a", lines("MULTI", "SET k v")), reset("a"), send("b", lines("GET k"))}},
		{name: "reset while blocked", steps: []step{send("a", lines("BLPOP l 0")), reset("a"), send("b", lines("RPUSH l x", "LLEN l"))}},
		{name: "reset with half a request", steps: []step{send("a", lines("PING")+"*1\r\n$4\r\nPI"), reset("a"), send("b", lines("PING"))}},
	}
	for i := range all {
		all[i].closesInFlight = strings.HasPrefix(all[i].name, "half-close behind QUIT")
	}
	return append(all, outputLimit())
}

func outputLimit() scenario {
	return scenario{
		drops:   true,
		name:    "replies above client-output-buffer-limit",
		admin:   []string{"CONFIG SET client-output-buffer-limit 'normal 1mb 0 0'"},
		restore: []string{"CONFIG SET client-output-buffer-limit 'normal 0 0 0'"},
		steps: []step{
			send("b", command("SET", "k", strings.Repeat("x", 8<<20))),
			send("a", lines("PING", "GET k", "PING")),
			send("b", lines("PING")),
		},
	}
}

func blocking() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"BLPOP that runs out":             "BLPOP none 0.02",
		"BRPOPLPUSH that runs out":        "BRPOPLPUSH none b 0.02",
		"BLMOVE that runs out":            "BLMOVE none b LEFT RIGHT 0.02",
		"BLMPOP that runs out":            "BLMPOP 0.02 2 none none2 LEFT",
		"BZPOPMIN that runs out":          "BZPOPMIN none 0.02",
		"XREAD that runs out":             "XREAD BLOCK 20 STREAMS none $",
		"WAIT that runs out":              "WAIT 1 20",
		"DEBUG SLEEP":                     "DEBUG SLEEP 0.02",
		"a blocking command with no wait": "BLPOP none x",
	} {
		data = lines("PING 1", data, "PING 2", "GET none", "ECHO done")
		for _, sc := range inBoth(name, data) {
			sc.steps[0].until = "done"
			all = append(all, sc)
		}
	}
	for name, steps := range map[string][]step{
		"BLPOP answered by another":   {send("a", lines("BLPOP l 0", "PING", "GET none")), send("b", lines("RPUSH l x y")), send("a", lines("LLEN l"))},
		"several blocked on one list": {send("a", lines("BLPOP l 0", "PING")), send("b", lines("BLPOP l 0", "PING")), send("c", lines("BRPOP l 0")), send("d", lines("RPUSH l 1 2 3 4")), send("a", lines("LLEN l"))},
		"BZPOPMAX and BLMOVE":         {send("a", lines("BZPOPMAX z 0", "BLMOVE l m LEFT LEFT 0", "PING")), send("b", lines("ZADD z 1.5 a", "RPUSH l v", "LRANGE m 0 -1"))},
		"XREAD of new entries":        {send("a", lines("XREAD BLOCK 0 STREAMS x $", "PING")), send("b", lines("XADD x 1-1 f v")), send("a", lines("PING"))},
		"CLIENT UNBLOCK": {
			send("b", lines("CLIENT UNBLOCK {id:a}")), send("a", lines("BLPOP l 0", "PING")), send("b", lines("CLIENT UNBLOCK {id:a}")),
			send("a", lines("BLPOP l 0", "PING")), send("b", lines("CLIENT UNBLOCK {id:a} ERROR", "CLIENT UNBLOCK {id:a}")),
		},
		"a blocked client whose key is deleted": {send("a", lines("XGROUP CREATE x g $ MKSTREAM", "XREADGROUP GROUP g c BLOCK 0 STREAMS x >", "PING")), send("b", lines("DEL x"))},
		"CLIENT PAUSE of writes":                {send("b", lines("CLIENT PAUSE 100000 WRITE")), send("a", lines("GET k", "SET k v", "GET k", "PING")), send("b", lines("GET k", "CLIENT UNPAUSE")), send("a", lines("GET k"))},
		"a client that waits for replicas":      {send("a", lines("SET k v", "WAIT 0 0", "PING"))},
	} {
		all = append(all, scenario{name: name, steps: steps, restore: []string{"CLIENT UNPAUSE"}})
	}
	return all
}

func busyRedis() []scenario {
	endless := command("EVAL", "while true do end", "0")
	return []scenario{{
		name:    "a script that does not end",
		admin:   []string{"CONFIG SET busy-reply-threshold 30"},
		restore: []string{"CONFIG SET busy-reply-threshold 5000"},
		steps: []step{
			send("a", lines("PING")), send("b", lines("PING")), send("c", lines("MULTI", "PING")),
			fire("a", endless+lines("PING 2")), untilBusy(),
			sendBusy("b", lines("GET k")), sendBusy("b", lines("PING")), sendBusy("b", lines("MULTI")), sendBusy("b", lines("GET k")), sendBusy("b", lines("EXEC")),
			sendBusy("c", lines("EXEC")), sendBusy("b", lines("HELLO 3")), sendBusy("b", lines("FOO")),
			sendBusy("b", lines("SCRIPT KILL")), untilIdle(),
			send("b", lines("GET k", "PING")), send("a", lines("PING 3")),
		},
	}}
}

// replicaCommands: what follows REPLCONF ACK and the like has no reply. (A real
// replica behind the proxy has a test of its own.)
func replicaCommands() []scenario {
	silent := single("REPLCONF ACK has no reply", lines("REPLCONF ACK 1", "PING 1", "REPLCONF GETACK *", "PING 2"))
	silent.pipes = "whether REPLCONF replies depends on its arguments"
	spoken := single("REPLCONF of a replica", lines("REPLCONF listening-port 1234", "REPLCONF capa eof capa psync2", "REPLCONF nosuch x", "REPLCONF x", "PING"))
	spoken.pipes = silent.pipes
	return []scenario{silent, spoken}
}
