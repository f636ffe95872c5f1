package passthrough

import (
	"bytes"
	"math"
)

const (
	// maxLine is how much of a line is remembered where its text matters.
	maxLine = 300
	// maxFirst is how much of an aggregate's first string is remembered.
	maxFirst = 16
)

// frames finds the top-level frames in what Redis sends, in RESP2 and RESP3,
// with fixed memory whatever sizes are announced: aggregates are counted on an
// explicit stack, strings are skipped as they pass by.
//
// Attributes belong to the frame that follows them. A push inside an aggregate
// is no element of it (Redis before 7.2 sends them so in the reply of EXEC).
type frames struct {
	stack  []level
	skip   int64 // bytes left of the current string, with its line end
	inLine bool  // within a line; typ is its type
	typ    byte

	// What is known of the current frame, see keep.
	keep  bool   // remember line, first, last and elements
	top   byte   // type of the frame, attributes aside
	line  []byte // the line being read; at the end of a simple frame, its text
	first []byte // the first string of the top-level aggregate
	last  int64  // the last integer in it
	// elements, if not nil, collects the types of the elements of the top-level
	// aggregate; 'K' stands for the simple string OK.
	elements []byte
	listing  bool

	count int64 // values begun since the frame's own head
}

// level is an aggregate that is not complete yet.
type level struct {
	left  int64 // values it still lacks
	extra bool  // it is no element of what surrounds it
}

// begin prepares for the next top-level frame.
func (f *frames) begin(keep, listing bool) {
	f.keep, f.listing = keep, listing
	f.top, f.count, f.last = 0, 0, 0
	f.line, f.first, f.elements = f.line[:0], f.first[:0], f.elements[:0]
}

// next consumes p up to the end of the current frame, and tells whether it was
// reached. ok is false where p is not understood.
func (f *frames) next(p []byte) (n int, end, ok bool) {
	for n < len(p) {
		if f.skip > 0 {
			k := int(min(int64(len(p)-n), f.skip))
			f.rememberString(p[n : n+k])
			n += k
			f.skip -= int64(k)
			if f.skip == 0 && f.finish(false) {
				return n, true, true
			}
			continue
		}
		k, done, ok := f.text(p[n:])
		n += k
		if !ok || done {
			return n, done, ok
		}
	}
	return n, false, true
}

// text consumes a line, or as much of it as p holds.
func (f *frames) text(p []byte) (n int, end, ok bool) {
	if !f.inLine {
		f.inLine, f.typ, f.line = true, p[0], f.line[:0]
	}
	eol := bytes.IndexByte(p, '\n')
	if eol < 0 {
		f.rememberLine(p)
		return len(p), false, f.typ == '+' || f.typ == '-' || f.typ == ',' || f.typ == '(' || len(f.line) <= maxNumberLine
	}
	f.inLine = false
	line := p[:eol+1]
	if len(f.line) > 0 || f.keep || f.typ == '-' {
		f.rememberLine(line)
		line = f.line
	}
	end, ok = f.value(line)
	return eol + 1, end, ok
}

// value acts on a complete line: a scalar, or the head of something longer.
func (f *frames) value(line []byte) (end, ok bool) {
	depth := len(f.stack)
	if depth == 0 && f.typ != '|' {
		f.top, f.count, f.first, f.elements = f.typ, 0, f.first[:0], f.elements[:0]
	}
	switch f.typ {
	case ':', '#', '_':
		if len(line) > maxNumberLine+1 {
			return false, false
		}
		fallthrough
	case '+', '-', ',', '(':
		f.rememberScalar(depth, line)
		return f.finish(false), true
	case '$', '=', '!':
		size, ok := f.size(line)
		if !ok {
			return false, false
		}
		f.list(depth, f.typ)
		f.count++
		if size < 0 {
			return f.finish(false), true
		}
		f.skip = size + 2
		return false, true
	case '*', '~', '>', '%', '|':
		return f.aggregate(depth, line)
	}
	return false, false
}

func (f *frames) aggregate(depth int, line []byte) (end, ok bool) {
	size, ok := f.size(line)
	if !ok || size > math.MaxInt64/2 {
		return false, false
	}
	if f.typ == '%' || f.typ == '|' {
		size *= 2
	}
	extra := f.typ == '|' || (f.typ == '>' && depth > 0)
	if !extra {
		f.list(depth, f.typ)
		if depth > 0 {
			f.count++
		}
	}
	if size <= 0 {
		return f.finish(extra), true
	}
	f.stack = append(f.stack, level{size, extra})
	return false, true
}

// size reads the number in line, a header like "*3\r\n".
func (f *frames) size(line []byte) (int64, bool) {
	n, end, st := number(line, 0)
	return n, st == complete && end == len(line) && n >= -1
}

// finish ends a value and all aggregates that it completes. It reports whether
// the frame is complete.
func (f *frames) finish(extra bool) bool {
	for {
		if extra {
			return false
		}
		k := len(f.stack) - 1
		if k < 0 {
			return true
		}
		if f.stack[k].left--; f.stack[k].left > 0 {
			return false
		}
		extra = f.stack[k].extra
		f.stack = f.stack[:k]
	}
}

func (f *frames) rememberLine(p []byte) {
	if f.keep || f.typ != '+' {
		f.line = append(f.line, p[:min(len(p), maxLine-len(f.line))]...)
	}
}

// rememberString keeps the beginning of the first string of a top-level aggregate.
func (f *frames) rememberString(p []byte) {
	if f.keep && len(f.stack) == 1 && f.count == 1 && len(f.first) < maxFirst {
		f.first = append(f.first, p[:min(len(p), maxFirst-len(f.first))]...)
	}
}

func (f *frames) rememberScalar(depth int, line []byte) {
	f.count++
	if !f.keep {
		return
	}
	if f.typ == ':' && depth == 1 {
		if n, ok := parseInt(bytes.TrimSpace(line[1:])); ok {
			f.last = n
		}
	}
	if f.typ == '+' && bytes.Equal(line, []byte("+OK\r\n")) {
		f.list(depth, 'K')
		return
	}
	f.list(depth, f.typ)
}

func (f *frames) list(depth int, typ byte) {
	if f.listing && depth == 1 {
		f.elements = append(f.elements, typ)
	}
}

// is reports whether the frame is the simple string or error whose line begins
// with text, its type included.
func (f *frames) is(text string) bool {
	return len(f.line) >= len(text) && string(f.line[:len(text)]) == text
}

// kind returns the first string of the frame, such as "message" or "subscribe".
func (f *frames) kind() string {
	s, _, _ := bytes.Cut(f.first, []byte("\r"))
	return string(s)
}
