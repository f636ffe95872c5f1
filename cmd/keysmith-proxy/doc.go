// Command keysmith-proxy is a Redis proxy with distributed locks and memo locks.
//
//	keysmith-proxy [redis.conf] [--directive value ...]
//
// This package owns everything around the proxy itself: the configuration (in
// redis.conf syntax, with flags that win over the file), the places to listen on,
// the way to Redis or the embedded one, the log, start and stop. It knows nothing
// of the Redis protocol; serve.go hands what it has opened to the packages proxy,
// commands and engine.
//
// Configuration is a table of directives (directives.go). A file or a command
// line becomes lines (conffile.go, flags.go), each line is set by its row of the
// table, and what can only be judged as a whole is judged at the end (check.go).
// Whatever is wrong is reported with its place and with what would be right, and
// never with the value of a directive that may carry a password.
//
// keysmith-proxy lock (lock*.go) shares nothing with the rest: it is a client of a
// running proxy. lock.go is its life, from the command line to the exit status.
package main
