package integration

import (
	"fmt"
	"strings"
	"testing"
)

// lines are inline commands.
func lines(commands ...string) string { return strings.Join(commands, "\r\n") + "\r\n" }

// single is a scenario of one client that sends data at once.
func single(name, data string) scenario {
	return scenario{name: name, steps: []step{send("a", data)}}
}

// inBoth is single for a client that speaks RESP2 and for one that speaks RESP3.
func inBoth(name, data string) []scenario {
	return []scenario{single(name, data), single(name+" in RESP3", lines("HELLO 3")+data)}
}

func TestRequestsAreReadAsRedisReadsThem(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		p := startPair(t, v)
		p.checkThoroughly(t, inlineRequests())
		p.checkThoroughly(t, emptyRequests())
		p.checkThoroughly(t, numberGrammar())
		p.checkThoroughly(t, lineEnds())
		p.checkThoroughly(t, commandNames())
		p.checkThoroughly(t, limits())
		p.checkThoroughly(t, httpRequests())
	})
}

func inlineRequests() []scenario {
	requests := map[string]string{
		"a line feed ends an inline request":              "PING\nPING\r\nPING\n",
		"blanks around inline arguments":                  "  PING  \r\n\tPING\t\r\n\v PING\r\n\fPING \r\n",
		"carriage return in the middle of a line":         "PING\rPING\r\nPING\r\r\nPING\r \r\n",
		"double quotes with escapes":                      `ECHO "a\x41 \n\r\t\b\a\\\"\q"` + "\r\n",
		"hexadecimal escapes that are none":               `ECHO "\xZZ\x4"` + "\r\n",
		"a NUL by escape":                                 `ECHO "\x00"` + "\r\n",
		"single quotes with an escaped quote":             `ECHO 'it\'s \n "so"'` + "\r\n",
		"quotes in the middle of a word":                  `ECHO a"b c"` + "\r\n" + `ECHO a'b c'` + "\r\n",
		"empty quotes are an argument":                    `SET k ""` + "\r\nGET k\r\n" + `ECHO ''` + "\r\n",
		"a quoted command name":                           `"PING"` + "\r\n" + `'ping'` + "\r\n" + `"\x50ING"` + "\r\n",
		"a word right behind a closing double quote":      `ECHO "a"b` + "\r\nPING\r\n",
		"a word right behind a closing single quote":      `ECHO 'a'b` + "\r\nPING\r\n",
		"an open double quote":                            "ECHO \"a\r\nPING\r\n",
		"an open single quote":                            "ECHO 'a\r\nPING\r\n",
		"an open quote with a backslash at the end":       "ECHO \"a\\\r\nPING\r\n",
		"bytes above 127":                                 "ECHO \xff\xfe\r\n\xc3\xa4\r\n",
		"inline requests that look like other protocols":  "$5\r\nhello\r\n+OK\r\n:1\r\n-ERR\r\n>1\r\n%1\r\n",
		"inline and array requests in turn":               "PING\r\n*1\r\n$4\r\nPING\r\nPING\n*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n",
		"an inline name of a KS command in quotes":        `"ks.help"` + "\r\n" + `'KS.HELP'` + "\r\n" + `"k\x73.help"` + "\r\n",
		"names that begin like a KS command":              lines("K", "KS", "KS.", "KS.H", "KS.NOSUCH", "KS.HELPER", "XKS.HELP", "KS", "ks.help.me"),
		"many arguments inline":                           "DEL" + strings.Repeat(" k", 5000) + "\r\nPING\r\n",
		"inline arguments that begin with the array mark": "ECHO *1\r\nECHO $4\r\n",
		"a single character":                              "x\r\n",
		"an inline line of almost 64 KB":                  "ECHO " + strings.Repeat("x", 60000) + "\r\nPING\r\n",
		"comments are commands":                           "# hello\r\n",
		"backslashes outside of quotes":                   `ECHO \x41\n` + "\r\n",
		"a quote that ends at the very end of the line":   `SET "k" "v"` + "\nGET k\n",
		"blank between name and line end, name of KS":     "KS.HELP \r\n KS.HELP\r\n",
		"unbalanced quotes behind a KS name":              "KS.HELP \"\r\nPING\r\n",
	}
	var all []scenario
	for name, data := range requests {
		all = append(all, inBoth(name, data)...)
	}
	stalled := single("a NUL keeps an inline request from ever being complete", "PI\x00NG\r\nPING\r\n")
	stalled.pipes = "Redis never sees the end of that line"
	return append(all, stalled)
}

func emptyRequests() []scenario {
	var all []scenario
	for _, empty := range []string{"\r\n", "\n", "  \r\n", "\t\n", "*0\r\n", "*-1\r\n", "*-5\r\n", "*-9223372036854775808\r\n", "\r\n*0\r\n\n"} {
		name := fmt.Sprintf("empty request %q", empty)
		all = append(all,
			single(name+" gets no reply", empty+"PING\r\n"+empty+command("ECHO", "x")+empty),
			single(name+" uses up CLIENT REPLY SKIP", lines("CLIENT REPLY SKIP")+empty+lines("PING 1", "PING 2")),
			single(name+" in MULTI is no command", lines("MULTI")+empty+lines("PING", "EXEC")),
			single(name+" while subscribed", lines("SUBSCRIBE a")+empty+lines("PING")),
			single(name+" under CLIENT REPLY OFF", lines("CLIENT REPLY OFF")+empty+lines("PING", "CLIENT REPLY ON", "PING")))
	}
	return all
}

// numberGrammar: Redis reads counts with string2ll, which knows no plus sign,
// no leading zeros and no blanks.
func numberGrammar() []scenario {
	var all []scenario
	for _, count := range []string{
		"+1", "01", " 1", "1 ", "-0", "00", "-01", "", "abc", "1a", "0x1", "1.0", "1e0", "--1", "-",
		"2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
		"99999999999999999999999", "1048577", "\x00", "1\x00", "1\n",
	} {
		all = append(all,
			single(fmt.Sprintf("an array of %q arguments", count), "PING\r\n*"+count+"\r\n$4\r\nPING\r\n"),
			single(fmt.Sprintf("an argument of %q bytes", count), "PING\r\n*2\r\n$4\r\nECHO\r\n$"+count+"\r\nx\r\nPING\r\n"),
			single(fmt.Sprintf("a name of %q bytes", count), "*1\r\n$"+count+"\r\nPING\r\n"))
	}
	for _, size := range []string{"-1", "-2", "536870913", "536870912"} {
		all = append(all, single("a bulk string of "+size+" bytes", "*2\r\n$4\r\nECHO\r\n$"+size+"\r\nxx\r\n"))
	}
	for _, kind := range []string{":4", "+PING", "*1", "-1", "", "\n", "%", "_", "PING", " $4", "\x00"} {
		all = append(all,
			single(fmt.Sprintf("%q where a name should begin", kind), "PING\r\n*1\r\n"+kind+"\r\nPING\r\n"),
			single(fmt.Sprintf("%q where an argument should begin", kind), "*2\r\n$4\r\nECHO\r\n"+kind+"\r\nPING\r\n"))
	}
	return all
}

// lineEnds: Redis looks for a carriage return and skips two bytes; it does not
// look at the second, nor at the two behind a bulk string.
func lineEnds() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"any byte in place of the line feed":                  "*1\rX$4\rXPING\rX*2\rY$4\rYECHO\rY$1\rYx\rYPING\r\n",
		"any two bytes behind a bulk string":                  "*1\r\n$4\r\nPINGXY*2\r\n$4\r\nECHO\n\n$1\r\nx\x00\x00PING\r\n",
		"carriage returns in place of line feeds":             "*1\r\r$4\r\rPING\r\rPING\r\n",
		"a lone line feed ends no array header":               "*1\n$4\nPING\n",
		"a lone line feed ends no bulk header":                "*1\r\n$4\nPING\n",
		"a carriage return that comes after all":              "*1\n$4\nPING\n\r\nPING\r\n",
		"a lax KS command":                                    "*1\rX$7\rXKS.HELPXYPING\r\n",
		"a bulk string that contains line ends":               command("ECHO", "a\r\nb\r\n*1\r\n$4\r\nPING\r\n") + "PING\r\n",
		"an empty argument":                                   command("SET", "k", "") + command("GET", "k") + command("ECHO", ""),
		"a request cut off in its array header":               "PING\r\n*2",
		"a request cut off behind its array header":           "PING\r\n*2\r\n",
		"a request cut off in its bulk header":                "PING\r\n*2\r\n$4",
		"a request cut off in its name":                       "PING\r\n*2\r\n$4\r\nEC",
		"a request cut off in the name of a KS command":       "PING\r\n*1\r\n$7\r\nKS.H",
		"a request cut off behind its name":                   "PING\r\n*2\r\n$4\r\nECHO\r\n",
		"a request cut off in its argument":                   "PING\r\n*2\r\n$4\r\nECHO\r\n$10\r\nabc",
		"a request cut off before its last line end":          "PING\r\n*2\r\n$4\r\nECHO\r\n$3\r\nabc",
		"a request cut off between the bytes of its line end": "PING\r\n*2\r\n$4\r\nECHO\r\n$3\r\nabc\r",
		"an inline request cut off":                           "PING\r\nPIN",
		"an inline KS command cut off":                        "PING\r\nKS.HEL",
	} {
		all = append(all, single(name, data))
	}
	return all
}

func commandNames() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"an empty command name":                 "*1\r\n$0\r\n\r\n*2\r\n$0\r\n\r\n$1\r\nx\r\nPING\r\n",
		"names in any case":                     lines("ping", "PiNg", "sEt k v", "gEt k", "cLiEnT gEtNaMe", "ks.help", "Ks.HeLp"),
		"too few and too many arguments":        lines("GET", "GET a b", "SET k", "ECHO", "PING a b", "MULTI x", "SELECT", "CLIENT"),
		"unknown commands with arguments":       lines("FOO", "FOO a b c") + command("BAR", strings.Repeat("x", 300), "y\r\nz", "\x00"),
		"unknown subcommands":                   lines("CLIENT FOO", "CONFIG FOO", "OBJECT FOO a", "CLIENT|ID", "XGROUP FOO"),
		"a name of 100 bytes":                   command(strings.Repeat("n", 100)),
		"a name of 100 KB":                      command(strings.Repeat("n", 100<<10), "x") + "PING\r\n",
		"a name with line ends in it":           command("PI\r\nNG") + "PING\r\n",
		"a name with a NUL":                     command("NONE\x00") + command("KS.NONE\x00") + "PING\r\n",
		"names with blanks":                     command(" PING") + command("PING ") + command("KS.HELP "),
		"a KS command with many arguments":      command(append([]string{"KS.NOSUCH"}, strings.Fields(strings.Repeat("x ", 200))...)...),
		"introspection does not know KS":        lines("COMMAND INFO ks.lock", "COMMAND DOCS ks.lock", "COMMAND GETKEYS ks.lock a"),
		"introspection of ordinary commands":    lines("COMMAND COUNT", "COMMAND INFO get set", "COMMAND DOCS get", "COMMAND GETKEYS set a b", "COMMAND LIST FILTERBY PATTERN xadd*"),
		"help texts":                            lines("CLIENT HELP", "OBJECT HELP", "PUBSUB HELP"),
		"errors of data types":                  lines("SET k v", "LPUSH k x", "INCR k", "HGET k f", "GETEX k PX -1", "SETRANGE k -1 x", "EXPIRE k abc"),
		"an error text with line ends from Lua": command("EVAL", "return redis.error_reply('a\\r\\nb')", "0") + command("EVAL", "return {err='x\\ny'}", "0") + command("EVAL", "return {ok='a\\r\\nb'}", "0"),
	} {
		all = append(all, inBoth(name, data)...)
	}
	return all
}

func limits() []scenario {
	args := append([]string{"DEL"}, strings.Fields(strings.Repeat("k ", 20000))...)
	exact := single("one byte more than 64 KB without a line end", strings.Repeat("x", 64<<10)+"y")
	exact.steps[0].cuts = []int{64 << 10}
	tooLong := func(name, prefix string) scenario {
		sc := single(name, prefix+strings.Repeat("1", 70000))
		sc.closesInFlight = true
		return sc
	}
	all := []scenario{
		exact,
		tooLong("an inline request without end", ""),
		tooLong("an array header without end", "*"),
		tooLong("a bulk header without end", "*1\r\n$"),
		single("20000 arguments", command(args...)+"PING\r\n"),
		single("an announced count that is never delivered", "*1000000\r\n$3\r\nDEL\r\n$1\r\nk\r\n"),
		single("a value of 1 MB", command("SET", "k", strings.Repeat("v", 1<<20))+lines("STRLEN k", "GET k", "PING")),
	}
	all = append(all, unauthenticated()...)
	small := single("an argument above proto-max-bulk-len", "*2\r\n$4\r\nECHO\r\n$2000000\r\n")
	small.admin = []string{"CONFIG SET proto-max-bulk-len 1048576"}
	small.restore = []string{"CONFIG SET proto-max-bulk-len 536870912"}
	queryLimit := scenario{
		name: "more pipelined input behind a blocked command than client-query-buffer-limit",
		steps: []step{
			send("a", lines("BLPOP k 0")),
			send("a", strings.Repeat(lines("PING"), 400000)),
		},
		admin:          []string{"CONFIG SET client-query-buffer-limit 1048576"},
		restore:        []string{"CONFIG SET client-query-buffer-limit 1073741824"},
		closesInFlight: true,
		withoutKS:      true, // the proxy reads no further while a KS command waits for BLPOP
	}
	return append(all, small, queryLimit)
}

// unauthenticated clients may send ten arguments of 16 KB at most.
func unauthenticated() []scenario {
	eleven := command(strings.Fields("MGET a b c d e f g h i j")...)
	long := func(n int) string { return command("ECHO", strings.Repeat("x", n)) }
	scenarios := []scenario{
		single("commands without authentication", lines("GET k", "PING", "SET k v", "FOO", "GET", "MULTI", "EXEC", "SUBSCRIBE a", "HELLO 3", "HELLO", "RESET", "AUTH secret", "PING")),
		single("eleven arguments without authentication", eleven),
		single("ten arguments without authentication", command(strings.Fields("MGET a b c d e f g h i")...)+"PING\r\n"),
		single("an argument above 16 KB without authentication", long(16385)),
		single("an argument of 16 KB without authentication", long(16384)+"PING\r\n"),
		single("a KS command of eleven arguments without authentication", command(strings.Fields("KS.HELP a b c d e f g h i j")...)),
		single("limits are gone after AUTH", lines("AUTH secret")+eleven+long(16385)),
		single("limits are gone after HELLO with AUTH", lines("HELLO 3 AUTH default secret")+eleven+long(16385)),
		single("limits are back after RESET", lines("AUTH secret")+eleven+lines("RESET")+eleven),
		single("wrong passwords", lines("AUTH wrong", "AUTH default wrong", "AUTH nobody secret", "HELLO 3 AUTH default wrong", "HELLO 2 AUTH x", "AUTH a b c", "AUTH")),
		single("QUIT without authentication", lines("QUIT", "PING")),
	}
	for i := range scenarios {
		scenarios[i].uncut = true
		scenarios[i].closesInFlight = true // Redis may close on a count before it has the arguments
		scenarios[i].admin = []string{"CONFIG SET requirepass secret"}
		scenarios[i].restore = []string{"CONFIG SET requirepass ''"}
	}
	return scenarios
}

// httpRequests: Redis closes on POST and Host: without a word, so that no
// browser can be made to send it commands.
func httpRequests() []scenario {
	var all []scenario
	for name, data := range map[string]string{
		"POST inline":             "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n",
		"GET with a Host header":  "GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
		"POST as an array":        command("POST", "x") + "PING\r\n",
		"host: in lower case":     "host: x\r\nPING\r\n",
		"POST inside MULTI":       lines("MULTI", "SET k v", "POST x", "EXEC"),
		"replies before a POST":   lines("PING", "SET k v", "POST", "GET k"),
		"a TLS handshake":         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"an SSH banner":           "SSH-2.0-OpenSSH_9.2\r\n",
		"a Redis Cluster message": "RCmb\x00\x00\x00\x10\x00\x01\r\n",
		"zeros":                   strings.Repeat("\x00", 100),
	} {
		sc := single(name, data)
		sc.drops = true
		if strings.Contains(data, "\x00") {
			sc.pipes = "a NUL keeps the line from ever being complete"
		}
		all = append(all, sc)
	}
	return all
}
