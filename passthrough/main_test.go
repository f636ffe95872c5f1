package passthrough

import (
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// resp makes a request in RESP of words.
func resp(words ...string) string {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	return string(AppendCommand(nil, args...))
}

// bulk makes a bulk string of s.
func bulk(s string) string { return "$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n" }

// array makes a RESP2 array of bulk strings; values like ":1" go in as they are.
func array(words ...string) string { return aggregate('*', words...) }

// push makes a RESP3 push.
func push(words ...string) string { return aggregate('>', words...) }

func aggregate(sigil byte, words ...string) string {
	var b strings.Builder
	b.WriteString(string(sigil) + strconv.Itoa(len(words)) + "\r\n")
	for _, w := range words {
		switch {
		case strings.HasPrefix(w, ":"):
			b.WriteString(w + "\r\n")
		case w == "nil":
			b.WriteString("$-1\r\n")
		default:
			b.WriteString(bulk(w))
		}
	}
	return b.String()
}

// cut returns the pieces of s between the offsets in at, which are taken modulo
// its length: any list makes a valid split.
func cut(s []byte, at ...int) [][]byte {
	cuts := make([]bool, len(s)+1)
	for _, i := range at {
		if len(s) > 0 {
			cuts[i%len(s)] = true
		}
	}
	var pieces [][]byte
	from := 0
	for i := 1; i <= len(s); i++ {
		if cuts[i] || i == len(s) {
			pieces = append(pieces, s[from:i])
			from = i
		}
	}
	return pieces
}

// splits returns ways to cut s: whole, byte by byte, and in two at each offset
// of a short s.
func splits(s []byte) [][][]byte {
	bytewise := make([]int, len(s))
	for i := range bytewise {
		bytewise[i] = i
	}
	all := [][][]byte{cut(s), cut(s, bytewise...)}
	for i := 1; i < len(s) && len(s) <= 400; i++ {
		all = append(all, cut(s, i))
	}
	return all
}
