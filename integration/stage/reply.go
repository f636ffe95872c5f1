package stage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Refusal is an error reply.
type Refusal string

// Parse turns the bytes of a reply into string, int64, nil, Refusal or []any.
// Pushes are arrays.
func Parse(t testing.TB, reply string) any {
	t.Helper()
	value, rest, err := ParseOne(reply)
	if err != nil || rest != "" {
		t.Fatalf("odd reply %.200q: %v", reply, err)
	}
	return value
}

// ParseOne is Parse of the first reply in b; rest is what comes behind it.
func ParseOne(b string) (value any, rest string, err error) {
	header, rest, _ := strings.Cut(b, "\r\n")
	if header == "" {
		return nil, "", fmt.Errorf("no reply")
	}
	switch header[0] {
	case '+':
		return header[1:], rest, nil
	case '-':
		return Refusal(header[1:]), rest, nil
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
		if elements[i], rest, err = ParseOne(rest); err != nil {
			return nil, "", err
		}
	}
	return elements, rest, nil
}

// Grant is a lock, or the promise to make a value (which shows no fence).
type Grant struct {
	Token string
	Fence int64
}

// AsGrant reads the reply of KS.LOCK, or of KS.MEMO that promoted the caller.
func AsGrant(value any) (Grant, error) {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return Grant{}, fmt.Errorf("reply %#v is no grant", value)
	}
	first, _ := pair[0].(string)
	switch second := pair[1].(type) {
	case int64:
		return Grant{first, second}, nil
	case string:
		if first == "generate" {
			return Grant{Token: second}, nil
		}
	}
	return Grant{}, fmt.Errorf("reply %#v is no grant", value)
}

// WantValue checks that the reply of KS.MEMO is this value.
func WantValue(t testing.TB, reply any, value string) {
	t.Helper()
	if pair, ok := reply.([]any); !ok || !slices.Equal(pair, []any{"value", value}) {
		t.Fatalf("KS.MEMO answers %#v, want the value %q", reply, value)
	}
}
