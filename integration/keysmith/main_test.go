package keysmith

import (
	"flag"
	"os"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// TestMain lets more tests run at once than there are cores: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "6")
	}
	os.Exit(harness.Main(m))
}
