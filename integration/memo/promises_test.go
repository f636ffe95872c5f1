package memo

import (
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/promises"
)

// A promise without a test, or with one that has gone, is not kept for long.
func TestEveryPromiseHasTestsThatExist(t *testing.T) {
	promises.Check(t, 95, map[string]string{
		"locks": "../locks", "memopeers": "../memopeers", "engine": "../../engine",
	})
}
