package main

import (
	"slices"
	"strings"
	"testing"
)

func TestWordsAreSplitAsRedisSplitsThem(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string // nil: unbalanced quotes
	}{
		{`port 6380`, []string{"port", "6380"}},
		{"\t port \v\f\r 6380 \n", []string{"port", "6380"}},
		{``, []string{}},
		{`   `, []string{}},
		{`logfile ""`, []string{"logfile", ""}},
		{`logfile ''`, []string{"logfile", ""}},
		{`a "b c" d`, []string{"a", "b c", "d"}},
		{`a "\n\r\t\b\a\q\"\\"`, []string{"a", "\n\r\t\b\aq\"\\"}},
		{`a "\x41\xfF\x4g\x4"`, []string{"a", "A\xffx4gx4"}},
		{`a '\n\'"\x41'`, []string{"a", `\n'"\x41`}},
		{`a b"c d"`, []string{"a", "bc d"}},
		{`a b'c d'`, []string{"a", "bc d"}},
		{`a \" b`, nil},
		{`a "b"c`, nil},
		{`a 'b'"c"`, nil},
		{`a "b`, nil},
		{`a "b\`, nil},
		{`a 'b\'`, nil},
		{`a "b\"`, nil},
		{"a\x00b", []string{"a"}}, // as a C string, it ends there
		{`a # b`, []string{"a", "#", "b"}},
	} {
		got, err := splitWords(tt.line)
		if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v; want %q", tt.line, got, err, tt.want)
		}
	}
}

// repr quotes as sdscatrepr of Redis's sds.c does, the inverse of splitWords.
func repr(word string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(word) {
		b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
	}
	b.WriteByte('"')
	return b.String()
}

func FuzzWordsSurviveQuoting(f *testing.F) {
	f.Add(`port 6380`)
	f.Add(`a "\x41 b" 'c\'d' "`)
	f.Add("a\x00b \\")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = repr(w)
		}
		again, err := splitWords(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q: %q became %q, %v", line, words, again, err)
		}
	})
}
