// A module of its own, so that the libraries it compares with are no
// dependencies of the proxy's.
module github.com/keysmith-proxy/keysmith-proxy/integration/bench-locks

go 1.26.0

require (
	github.com/bsm/redislock v0.9.4
	github.com/go-redsync/redsync/v4 v4.18.1
	github.com/keysmith-proxy/keysmith-proxy v0.0.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/redis/rueidis v1.0.79
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/keysmith-proxy/keysmith-proxy => ../..
