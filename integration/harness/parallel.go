package harness

import "flag"

// Parallel lets n tests of a package run at once, also where there are fewer cores, unless the command
// line says otherwise: for tests that mostly wait. TestMain calls it.
func Parallel(n string) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", n)
	}
}
