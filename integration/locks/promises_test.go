package locks

import (
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/promises"
)

// A promise without a test, or with one that has gone, is not kept for long.
func TestEveryPromiseHasTestsThatExist(t *testing.T) {
	promises.Check(t, 90, map[string]string{
		"guard": "../guard", "lockcmd": "../lockcmd", "engine": "../../engine", "cmd": "../../cmd/keysmith-proxy",
	})
}

// TestWhatIsMissingInTheTableIsNoticed: the check itself can fail.
func TestWhatIsMissingInTheTableIsNoticed(t *testing.T) {
	sources := promises.ReadSources(t)
	for name, found := range map[string]bool{
		"TestOnOneProxy":                               true,
		"TestOnOneProxy/WAIT 0 has no bound":           true,
		"TestOnOneProxy/WAIT 1 has no bound":           false,
		"TestOnOneProxy/are released at RESET":         false, // a scene of others
		"TestOnTwoProxies":                             false,
		"TestRedisRestarts/with its data, one proxy":   true,
		"TestRedisRestarts/with its data, two proxies": false,
		"nowhere.TestOnOneProxy":                       false,
	} {
		if err := sources.Find(name); (err == nil) != found {
			t.Errorf("%s: %v", name, err)
		}
	}
}
