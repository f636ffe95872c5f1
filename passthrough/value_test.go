package passthrough

import (
	"errors"
	"fmt"
	"testing"
)

func TestParseReplyReadsEveryType(t *testing.T) {
	for in, want := range map[string]string{
		"+OK\r\n":                            `string "OK"`,
		"-ERR no\r\n":                        `passthrough.Error "ERR no"`,
		":-7\r\n":                            `int64 -7`,
		"$5\r\nhe\r\nl\r\n":                  `string "he\r\nl"`,
		"$0\r\n\r\n":                         `string ""`,
		"$-1\r\n":                            `<nil> <nil>`,
		"*-1\r\n":                            `<nil> <nil>`,
		"_\r\n":                              `<nil> <nil>`,
		"*0\r\n":                             `[]interface {} []`,
		"*3\r\n:1\r\n$1\r\na\r\n*1\r\n_\r\n": `[]interface {} [1 "a" [<nil>]]`,
		"%1\r\n+k\r\n:1\r\n":                 `[]interface {} ["k" 1]`,
		"~1\r\n#t\r\n":                       `[]interface {} [true]`,
		"#f\r\n":                             `bool false`,
		",1.5\r\n":                           `float64 1.5`,
		",inf\r\n":                           `float64 +Inf`,
		"(18446744073709551616\r\n":          `*big.Int 18446744073709551616`,
		"=8\r\ntxt:text\r\n":                 `string "text"`,
		"!6\r\nERR no\r\n":                   `passthrough.Error "ERR no"`,
		"|1\r\n+ttl\r\n:5\r\n+OK\r\n":        `string "OK"`,
		"*1\r\n|1\r\n+ttl\r\n:5\r\n+OK\r\n":  `[]interface {} ["OK"]`,
		">2\r\n$1\r\na\r\n:1\r\n":            `[]interface {} ["a" 1]`,
		"*2\r\n-ERR in\r\n!6\r\nERR no\r\n":  `[]interface {} ["ERR in" "ERR no"]`,
	} {
		v, err := ParseReply([]byte(in))
		if got := fmt.Sprintf("%T ", v) + show(v); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", in, got, err, want)
		}
	}
}

func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case Error:
		return fmt.Sprintf("%q", string(v))
	case []any:
		out := "["
		for i, e := range v {
			if i > 0 {
				out += " "
			}
			out += show(e)
		}
		return out + "]"
	}
	return fmt.Sprint(v)
}

func TestParseReplyRefusesWhatIsNoSingleReply(t *testing.T) {
	for _, in := range []string{
		"", "\r\n", "+OK", "+OK\r\n+OK\r\n", ":x\r\n", ",x\r\n", "(x\r\n", "(\r\n", "$5\r\nhe\r\n", "$x\r\n", "*2\r\n:1\r\n", "*2147483647\r\n", "$999999999999\r\nx\r\n", "?\r\n", "%1\r\n+k\r\n", "|1\r\n+k\r\n+v\r\n",
	} {
		if v, err := ParseReply([]byte(in)); !errors.Is(err, errReply) || v != nil {
			t.Errorf("%q: %v, %v", in, v, err)
		}
	}
}

func TestAppendCommandTakesWhatSessionsSend(t *testing.T) {
	got := string(AppendCommand([]byte("x"), "EVALSHA", []byte("sha"), 1, int64(-5), ""))
	if want := "x*5\r\n$7\r\nEVALSHA\r\n$3\r\nsha\r\n$1\r\n1\r\n$2\r\n-5\r\n$0\r\n\r\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("an argument of another type was taken")
		}
	}()
	AppendCommand(nil, 1.5)
}
