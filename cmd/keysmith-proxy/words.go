package main

import (
	"errors"
	"strings"
)

var errQuotes = errors.New(`unbalanced quotes; a quoted value ends with the quote it began with, and a blank or the end of the line follows`)

// splitWords splits a configuration line as sdssplitargs of Redis's sds.c does:
// blanks separate words, "…" knows \n \r \t \b \a \xHH and takes any other byte
// behind a backslash as it is, '…' knows only \'. Its only error is errQuotes.
func splitWords(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\n\v\f\r")
		if line == "" {
			return words, nil
		}
		word, rest, err := nextWord(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), rest
	}
}

// nextWord takes the first word off line, which begins with a non-blank.
func nextWord(line string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\n', '\r', '\t', 0:
			return b.String(), line[i+1:], nil
		case '"', '\'':
			n, ok := quoted(&b, line[i:])
			if rest = line[i+n:]; !ok || rest != "" && !isBlank(rest[0]) {
				return "", "", errQuotes
			}
			return b.String(), rest, nil
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// quoted appends to b what the quotes that s begins with hold. It returns the
// number of bytes up to and with the closing quote, and false if there is none.
func quoted(b *strings.Builder, s string) (int, bool) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1, true
		case c != '\\' || i+1 == len(s):
			b.WriteByte(c)
		case quote == '\'':
			if s[i+1] == '\'' {
				i++
			}
			b.WriteByte(s[i])
		case s[i+1] == 'x' && i+3 < len(s) && isHex(s[i+2]) && isHex(s[i+3]):
			b.WriteByte(unhex(s[i+2])<<4 | unhex(s[i+3]))
			i += 3
		default:
			i++
			b.WriteByte(unescape(s[i]))
		}
	}
	return len(s), false
}

func unescape(c byte) byte {
	if i := strings.IndexByte("nrtba", c); i >= 0 {
		return "\n\r\t\b\a"[i]
	}
	return c
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
