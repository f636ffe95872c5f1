package engine

import (
	"fmt"
	"strconv"
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

// seqs reads the waiters of this proxy that the script wants rung.
func (f *fields) seqs() []int64 {
	v := f.next()
	list, ok := v.([]any)
	if !ok && f.err == nil {
		f.err = fmt.Errorf("script replied %T instead of the waiters to ring", v)
	}
	out := make([]int64, 0, len(list))
	for _, item := range list {
		s, _ := item.(string)
		seq, err := strconv.ParseInt(s, 10, 64)
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("script wants waiter %q rung", s)
		}
		out = append(out, seq)
	}
	return out
}
