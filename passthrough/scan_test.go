package passthrough

import (
	"bytes"
	"math"
	"strconv"
)

// event is a request as a Scanner sees it.
type event struct {
	effect Effect
	arg    int64
}

// scanned is what a client's bytes came to.
type scanned struct {
	events    []event  // requests that were passed on, in order; Empty ones left out
	commands  []string // requests that were intercepted, whole
	order     string   // the bytes in order: passed on, intercepted, and after Odd
	odd       bool
	blocking  bool
	within    bool // a request was begun and passed on in part
	leftover  int  // bytes held back in the end
	uncounted int  // requests by which Batch.Requests is off
}

// isOurs is what the tests intercept.
func isOurs(name []byte) bool { return len(name) > 3 && bytes.EqualFold(name[:3], []byte("ks.")) }

// scan plays a session: it feeds pieces to a Scanner as they would be read.
func scan(pieces [][]byte) scanned {
	var (
		out scanned
		s   = Scanner{Intercept: isOurs}
		b   Batch
		buf []byte
	)
	var order []byte
	command, within := []byte(nil), false
	for _, piece := range pieces {
		buf = append(buf, piece...)
		for again := true; again; {
			again = false
			if out.odd {
				order = append(order, buf...)
				buf = buf[:0]
				break
			}
			if !within {
				b.Clear()
				n, m, verdict := s.Scan(buf, &b)
				out.book(&b)
				order = append(order, buf[:n]...)
				command = append(command[:0], buf[n:m]...)
				buf = buf[m:]
				switch verdict {
				case Odd:
					out.odd, again = true, true
				case Intercepted:
					within = true
				}
			}
			if within {
				n, done, verdict := s.Rest(buf)
				command = append(command, buf[:n]...)
				buf = buf[n:]
				switch {
				case verdict == Odd:
					order = append(order, command...)
					within, out.odd, again = false, true, true
				case done:
					out.commands = append(out.commands, string(command))
					order = append(order, command...)
					within, again = false, true
				}
			}
		}
	}
	out.leftover = len(buf)
	out.within = s.Within() || within
	if within {
		order = append(order, command...)
	}
	out.order = string(append(order, buf...))
	return out
}

// book adds what a batch holds.
func (o *scanned) book(b *Batch) {
	var n int64
	for _, r := range b.runs {
		if r.effect == Empty {
			continue
		}
		n += r.n
		for range r.n {
			o.events = append(o.events, event{r.effect, r.arg})
		}
	}
	o.uncounted += int(b.Requests() - n)
	o.blocking = o.blocking || b.Blocking()
}

// reference is an independent reading of networking.c: it finds the requests in
// the whole of p at once, as lists of arguments.
func reference(p []byte) (requests [][][]byte, odd bool) {
	for len(p) > 0 {
		var args [][]byte
		var n int
		if p[0] == '*' {
			args, n, odd = referenceMultibulk(p)
		} else {
			args, n, odd = referenceInline(p)
		}
		if odd || n == 0 {
			return requests, odd
		}
		requests = append(requests, args)
		p = p[n:]
	}
	return requests, false
}

// referenceInline is processInlineBuffer: n == 0 means that more is needed.
func referenceInline(p []byte) (args [][]byte, n int, odd bool) {
	nul, eol := bytes.IndexByte(p, 0), bytes.IndexByte(p, '\n')
	if nul >= 0 && (eol < 0 || nul < eol) {
		return nil, 0, true // Redis stalls
	}
	if eol < 0 {
		return nil, 0, false
	}
	line := bytes.TrimSuffix(p[:eol], []byte("\r"))
	args, ok := SplitWords(line)
	return args, eol + 1, !ok
}

// referenceMultibulk is processMultibulkBuffer.
func referenceMultibulk(p []byte) (args [][]byte, n int, odd bool) {
	argc, i, odd := referenceNumber(p, 0, math.MaxInt32)
	if odd || i == 0 {
		return nil, 0, odd
	}
	for range argc {
		if i == len(p) {
			return nil, 0, false
		}
		if p[i] != '$' {
			return nil, 0, true
		}
		size, next, odd := referenceNumber(p, i, math.MaxInt64)
		if !odd && next > 0 && size < 0 {
			odd = true
		}
		if odd || next == 0 {
			return nil, 0, odd
		}
		if int64(len(p)-next) < size+2 {
			return nil, 0, false
		}
		args = append(args, p[next:next+int(size)])
		i = next + int(size) + 2
	}
	return args, i, false
}

// referenceNumber reads the number behind p[i] up to '\r' and skips two bytes.
// It is odd as soon as no continuation could make it a number (Redis itself
// says so only when the line is complete).
func referenceNumber(p []byte, i int, limit int64) (v int64, next int, odd bool) {
	text, _, ended := bytes.Cut(p[i+1:], []byte("\r"))
	if !ended {
		for k, c := range text {
			if (c < '0' || c > '9') && (c != '-' || k > 0) {
				return 0, 0, true
			}
		}
		digits := bytes.TrimLeft(text, "-")
		n, _ := strconv.ParseUint(string(digits), 10, 64)
		return 0, 0, len(digits) > 19 || n > 1<<63
	}
	v, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || strconv.FormatInt(v, 10) != string(text) || v > limit {
		return 0, 0, true
	}
	next = i + 1 + len(text) + 2
	if next > len(p) {
		return 0, 0, false
	}
	return v, next, false
}
