package keysmith

import (
	"os"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	harness.Parallel("6")
	os.Exit(harness.Main(m))
}
