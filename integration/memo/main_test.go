package memo

import (
	"os"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(callerEnv) != "" {
		call()
	}
	harness.Parallel("6")
	os.Exit(harness.Main(m))
}
