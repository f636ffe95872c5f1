package locks

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// refusal is an error reply.
type refusal string

// parse turns the bytes of a reply into string, int64, nil, refusal or []any.
// Pushes are arrays.
func parse(t testing.TB, reply string) any {
	t.Helper()
	value, rest, err := parseOne(reply)
	if err != nil || rest != "" {
		t.Fatalf("odd reply %.200q: %v", reply, err)
	}
	return value
}

func parseOne(b string) (value any, rest string, err error) {
	header, rest, _ := strings.Cut(b, "\r\n")
	if header == "" {
		return nil, "", fmt.Errorf("no reply")
	}
	switch header[0] {
	case '+':
		return header[1:], rest, nil
	case '-':
		return refusal(header[1:]), rest, nil
	case '_':
		return nil, rest, nil
	}
	n, err := strconv.ParseInt(header[1:], 10, 64)
	if err != nil {
		return nil, "", err
	}
	switch {
	case header[0] == ':':
		return n, rest, nil
	case n < 0:
		return nil, rest, nil
	case header[0] == '$':
		if int64(len(rest)) < n+2 {
			return nil, "", fmt.Errorf("cut off")
		}
		return rest[:n], rest[n+2:], nil
	}
	if header[0] == '%' {
		n *= 2
	}
	elements := make([]any, n)
	for i := range elements {
		if elements[i], rest, err = parseOne(rest); err != nil {
			return nil, "", err
		}
	}
	return elements, rest, nil
}

// grant is a lock, or the promise to make a value (which shows no fence).
type grant struct {
	token string
	fence int64
}

// asGrant reads the reply of KS.LOCK, or of KS.MEMO that promoted the caller.
func asGrant(value any) (grant, error) {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return grant{}, fmt.Errorf("reply %#v is no grant", value)
	}
	first, _ := pair[0].(string)
	switch second := pair[1].(type) {
	case int64:
		return grant{first, second}, nil
	case string:
		if first == "generate" {
			return grant{token: second}, nil
		}
	}
	return grant{}, fmt.Errorf("reply %#v is no grant", value)
}
