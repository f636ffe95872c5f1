// Package harness runs the real thing for tests: the built keysmith-proxy in
// front of a real redis-server, and sockets that record exactly what arrives.
//
// A test package calls Main from its TestMain and then StartRedis, StartProxy
// and Dial; everything a test starts is stopped by pid when the test ends, and
// a proxy that does not stop cleanly, or whose log shows a panic or a data
// race, fails the test. Without redis-server on the machine tests are skipped,
// except in CI (CI=true), where they fail.
//
// Servers listen on loopback only, keep nothing on disk outside a temporary
// directory, and die with the test process even if that is killed.
package harness
