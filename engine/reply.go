package engine

import (
	"fmt"
	"strconv"
	"strings"
)

// fields reads a script's reply from left to right; the first mismatch sticks.
type fields struct {
	rest []any
	err  error
}

func fieldsOf(reply any) *fields {
	list, ok := reply.([]any)
	f := &fields{rest: list}
	if !ok {
		f.err = fmt.Errorf("script replied %T instead of an array", reply)
	}
	return f
}

func (f *fields) next() any {
	if f.err == nil && len(f.rest) == 0 {
		f.err = fmt.Errorf("script's reply is too short")
	}
	if f.err != nil {
		return nil
	}
	v := f.rest[0]
	f.rest = f.rest[1:]
	return v
}

func (f *fields) text() string {
	v := f.next()
	s, ok := v.(string)
	if !ok && f.err == nil {
		f.err = fmt.Errorf("script replied %T instead of a string", v)
	}
	return s
}

func (f *fields) number() int64 {
	v := f.next()
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("script replied %q instead of a number", v)
		}
		return n
	}
	if f.err == nil {
		f.err = fmt.Errorf("script replied %T instead of a number", v)
	}
	return 0
}

// ring is a waiter of this proxy that a script wants rung; seq may be watchClaim or ringObservers instead.
type ring struct {
	seq   int64
	token string
}

// rings reads whom the script wants rung.
func (f *fields) rings() []ring {
	v := f.next()
	list, ok := v.([]any)
	if !ok && f.err == nil {
		f.err = fmt.Errorf("script replied %T instead of the waiters to ring", v)
	}
	out := make([]ring, 0, len(list))
	for _, item := range list {
		s, _ := item.(string)
		digits, token, _ := strings.Cut(s, " ")
		seq, err := strconv.ParseInt(digits, 10, 64)
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("script wants waiter %q rung", digits)
		}
		out = append(out, ring{seq, token})
	}
	return out
}
