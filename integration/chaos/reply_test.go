package chaos

import (
	"fmt"
	"strconv"
	"strings"
)

// refusal is an error reply.
type refusal string

// parse turns the bytes of a RESP2 reply into string, int64, nil, refusal or []any.
func parse(b string) (value any, rest string, err error) {
	header, rest, _ := strings.Cut(b, "\r\n")
	if header == "" {
		return nil, "", fmt.Errorf("no reply")
	}
	switch header[0] {
	case '+':
		return header[1:], rest, nil
	case '-':
		return refusal(header[1:]), rest, nil
	}
	n, err := strconv.ParseInt(header[1:], 10, 64)
	switch {
	case err != nil:
		return nil, "", err
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
	elements := make([]any, n)
	for i := range elements {
		if elements[i], rest, err = parse(rest); err != nil {
			return nil, "", err
		}
	}
	return elements, rest, nil
}
