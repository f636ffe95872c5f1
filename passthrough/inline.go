package passthrough

import "bytes"

// SplitWords splits an inline request, or a line of a redis.conf, into words as
// sdssplitargs of sds.c does: blanks separate words, "…" knows \n \r \t \b \a
// \xHH and takes any other byte behind a backslash as it is, '…' knows only \'.
// It reports false where quotes don't match or a closing quote is followed by
// something else than a blank. As a C string, the line ends at a NUL.
func SplitWords(line []byte) (args [][]byte, ok bool) {
	line, _, _ = bytes.Cut(line, []byte{0})
	i := 0
	for {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return args, true
		}
		var arg []byte
		if arg, i, ok = inlineArg(line, i); !ok {
			return nil, false
		}
		args = append(args, arg)
	}
}

// inlineArg reads one argument at line[i:].
func inlineArg(line []byte, i int) ([]byte, int, bool) {
	arg := []byte{}
	for i < len(line) {
		var ok bool
		switch c := line[i]; c {
		case ' ', '\n', '\r', '\t':
			return arg, i, true
		case '"':
			if arg, i, ok = doubleQuoted(line, i+1, arg); !ok {
				return nil, i, false
			}
			return arg, i, true
		case '\'':
			if arg, i, ok = singleQuoted(line, i+1, arg); !ok {
				return nil, i, false
			}
			return arg, i, true
		default:
			arg = append(arg, c)
			i++
		}
	}
	return arg, i, true
}

func doubleQuoted(line []byte, i int, arg []byte) ([]byte, int, bool) {
	for i < len(line) {
		switch c := line[i]; {
		case c == '\\' && i+3 < len(line) && line[i+1] == 'x' && hex(line[i+2]) >= 0 && hex(line[i+3]) >= 0:
			arg = append(arg, byte(hex(line[i+2])<<4|hex(line[i+3])))
			i += 4
		case c == '\\' && i+1 < len(line):
			arg = append(arg, unescape(line[i+1]))
			i += 2
		case c == '"':
			i++
			return arg, i, i == len(line) || isSpace(line[i])
		default:
			arg = append(arg, c)
			i++
		}
	}
	return nil, i, false
}

func singleQuoted(line []byte, i int, arg []byte) ([]byte, int, bool) {
	for i < len(line) {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line) && line[i+1] == '\'':
			arg = append(arg, '\'')
			i += 2
		case c == '\'':
			i++
			return arg, i, i == len(line) || isSpace(line[i])
		default:
			arg = append(arg, c)
			i++
		}
	}
	return nil, i, false
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// isSpace is C's isspace in the "C" locale.
func isSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }
