package main

import (
	"errors"

	"github.com/keysmith-proxy/keysmith-proxy/passthrough"
)

var errQuotes = errors.New(`unbalanced quotes; a quoted value ends with the quote it began with, and a blank or the end of the line follows`)

// splitWords splits a configuration line as Redis does, by the rules of inline
// requests. Its only error is errQuotes.
func splitWords(line string) ([]string, error) {
	args, ok := passthrough.SplitWords([]byte(line))
	if !ok {
		return nil, errQuotes
	}
	var words []string
	for _, arg := range args {
		words = append(words, string(arg))
	}
	return words, nil
}
