# Everything here works on a fresh Debian or Ubuntu with Go; `make` alone lists it.

SHELL := /bin/bash
BIN   := bin/keysmith-proxy

# The race detector needs a C compiler; .ci/deps installs one in CI.
RACE  := $(shell command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 || [ "$$CI" = true ] && echo -race)

# The same gofumpt as this golangci-lint has in it.
GOFUMPT  := mvdan.cc/gofumpt@v0.12.0
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/keysmith-proxy
	go build -o $(BIN) ./cmd/keysmith-proxy

.PHONY: run
run: ## run the proxy with an embedded Redis
	go run ./cmd/keysmith-proxy

.PHONY: deps
deps: ## install what the tests need: redis-server, and in CI the client libraries' languages
	@.ci/deps

.PHONY: test
test: deps ## run all tests, with the race detector if there is a C compiler, in random order
	@[ -n "$(RACE)" ] || echo "no C compiler: the tests run without the race detector"
	go -C integration/bench-locks test -shuffle=on .
	go test $(RACE) -shuffle=on -timeout 15m ./...

.PHONY: race
race: ## the tests of the packages themselves with the race detector, RACECOUNT (3) times, on 1 and on 4 cores
	go test -race -shuffle=on -cpu 1,4 -count $${RACECOUNT:-3} ./cmd/... ./commands/... ./engine/... ./passthrough/... ./proxy/...

.PHONY: lint
lint: ## golangci-lint: formatting, vet, staticcheck, the import graph; its first build takes minutes
	go run $(GOLANGCI) run
	cd integration/bench-locks && go run $(GOLANGCI) run

.PHONY: fmt
fmt: ## format the code
	go run $(GOFUMPT) -w .

.PHONY: bench
bench: build deps ## compare direct Redis, the proxy and haproxy in one run; BENCHFLAGS="-rounds 5 -clients 1"
	go run ./integration/bench -proxy $(BIN) $(BENCHFLAGS)

.PHONY: bench-handoff
bench-handoff: build deps ## measure locks: hand-off, recovery from what breaks, what a lock costs
	go run ./integration/lockbench -proxy $(BIN) $(BENCHFLAGS)

.PHONY: bench-memo
bench-memo: build deps ## measure memo locks: hits beside GET, misses, herds of up to 10 000 waiters, their memory
	go run ./integration/memobench -proxy $(BIN) $(BENCHFLAGS)

.PHONY: bench-locks
bench-locks: build deps ## compare KS.LOCK with redislock, redsync and rueidislock; BENCHFLAGS="-only ks -cases contended"
	go -C integration/bench-locks run . -proxy ../../$(BIN) $(BENCHFLAGS)

.PHONY: bench-go
bench-go: ## the Go benchmarks: framing and relaying, with allocations
	go test -run '^$$' -bench . -benchmem ./cmd/... ./commands/... ./engine/... ./passthrough/... ./proxy/...

.PHONY: fuzz
fuzz: ## run every native fuzz test for FUZZTIME (1m) each
	@set -e; for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $${FUZZTIME:-1m} $$pkg; \
		done; \
	done

.PHONY: fuzz-protocol
fuzz-protocol: deps ## play random histories of locks and memo locks on a real Redis for FUZZTIME (10m)
	go test -run 'TestHistories$$' -timeout 0 -v ./engine -args -history.time $${FUZZTIME:-10m}

.PHONY: diff-long
diff-long: deps ## compare random input direct and through the proxy for DIFFTIME (10m)
	go test -run 'Random' -timeout 0 -v ./integration -args -diff.duration $${DIFFTIME:-10m}

.PHONY: chaos
chaos: deps ## many clients while everything breaks, checked for CHAOSTIME (10m); CHAOSSEED=n repeats a seed
	go test $(RACE) -run 'TestChaos$$' -timeout 0 -v ./integration/chaos -args -chaos.time $${CHAOSTIME:-10m} -chaos.seed $${CHAOSSEED:-0}

.PHONY: soak-memo
soak-memo: deps ## the same for memo locks, for SOAKTIME (1h), with a report; SOAKSEED=n repeats a seed
	go test $(RACE) -run 'TestSoak$$' -timeout 0 -v ./integration/soak -args -soak.time $${SOAKTIME:-1h} -soak.seed $${SOAKSEED:-0}

.PHONY: clean
clean: ## remove what was built
	rm -rf bin integration/clients/node/node_modules
