package passthrough

import (
	"fmt"
	"testing"
)

// The results are those of sdssplitargs of Redis 7.0.
func TestInlineRequestsAreSplitAsRedisSplitsThem(t *testing.T) {
	for in, want := range map[string][]string{
		"":                          {},
		"   ":                       {},
		"a":                         {"a"},
		" a  b\tc ":                 {"a", "b", "c"},
		"a\vb\fc":                   {"a\vb\fc"}, // \v and \f separate arguments but don't end one
		"a \v\fb":                   {"a", "b"},
		"a\r":                       {"a"},
		"a\rb":                      {"a", "b"},
		`"a b"`:                     {"a b"},
		`"a b" c`:                   {"a b", "c"},
		`""`:                        {""},
		`"" ''`:                     {"", ""},
		`"\n\r\t\b\a"`:              {"\n\r\t\b\a"},
		`"\x41\x7a\xZZ"`:            {"AzxZZ"},
		`"\x4"`:                     {"x4"},
		`"\x4G"`:                    {"x4G"},
		`"\q\\\""`:                  {`q\"`},
		`'a b'`:                     {"a b"},
		`'it\'s'`:                   {"it's"},
		`'\n\x41'`:                  {`\n\x41`},
		`'\\'`:                      nil,
		`foo"bar baz"`:              {"foobar baz"},
		`foo'bar'`:                  {"foobar"},
		`"a""b"`:                    nil,
		`"a"b`:                      nil,
		`'a'b`:                      nil,
		`"a`:                        nil,
		`'a`:                        nil,
		`"a\`:                       nil,
		`"a\"`:                      nil,
		`'a\'`:                      nil,
		`ok "bad`:                   nil,
		`\x41`:                      {`\x41`},
		"\"a\"\tb":                  {"a", "b"},
		"'a'\r":                     {"a"},
		"SET \xff\xfe \"\xc3\x9f\"": {"SET", "\xff\xfe", "\xc3\x9f"},
	} {
		args, ok := SplitWords([]byte(in))
		if ok != (want != nil) || (ok && fmt.Sprintf("%q", args) != fmt.Sprintf("%q", want)) {
			t.Errorf("%q: %q, %v; want %q", in, args, ok, want)
		}
	}
}
