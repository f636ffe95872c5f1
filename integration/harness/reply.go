package harness

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// frameLength returns the length of the RESP2 or RESP3 reply at the beginning
// of b, 0 if it is not complete yet. An attribute counts as part of the reply
// that follows it.
func frameLength(b []byte) (int, error) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 1 {
		return 0, nil
	}
	header := end + 2
	switch b[0] {
	case '+', '-', ':', '_', ',', '#', '(':
		return header, nil
	}
	n, err := strconv.Atoi(string(b[1:end]))
	if err != nil {
		return 0, fmt.Errorf("no RESP reply: %.60q", b)
	}
	switch b[0] {
	case '$', '=', '!':
		return bulkLength(b, header, n), nil
	case '*', '~', '>':
		return elementsLength(b, header, n)
	case '%':
		return elementsLength(b, header, 2*n)
	case '|':
		return elementsLength(b, header, 2*n+1)
	}
	return 0, fmt.Errorf("no RESP reply: %.60q", b)
}

func bulkLength(b []byte, header, n int) int {
	switch {
	case n < 0:
		return header
	case len(b) < header+n+2:
		return 0
	}
	return header + n + 2
}

func elementsLength(b []byte, at, n int) (int, error) {
	for range n {
		m, err := frameLength(b[at:])
		if m == 0 || err != nil {
			return 0, err
		}
		at += m
	}
	return at, nil
}

// InfoField finds "field:number" in a reply of INFO.
func InfoField(info, field string) (int64, error) {
	_, rest, found := strings.Cut(info, "\n"+field+":")
	if !found {
		return 0, fmt.Errorf("no field %s in %.200q", field, info)
	}
	digits, _, _ := strings.Cut(rest, "\r\n")
	return strconv.ParseInt(digits, 10, 64)
}
