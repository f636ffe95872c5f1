// Package lockcmd checks keysmith-proxy lock as a shell sees it: the built binary
// as a client of a proxy in front of a real redis-server, by what its commands
// read, write and exit with.
package lockcmd
