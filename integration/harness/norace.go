//go:build !race

package harness

// RaceEnabled says that the tests, and so the proxy under test, run with the race detector.
const RaceEnabled = false
