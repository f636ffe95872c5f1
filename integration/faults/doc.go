// Package faults breaks what stands between clients and their locks: proxies, their links to Redis, Redis itself. It is
// shared by the tests that let many clients work meanwhile.
package faults
