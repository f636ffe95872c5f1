package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// upstreamFacts is what there is to know about Redis at the start. What Redis
// doesn't tell, because it is older or the proxy's user may not ask, is the zero
// value, or negative where zero means something.
type upstreamFacts struct {
	kind        string // Redis, Valkey, KeyDB, Dragonfly, embedded; empty: unknown
	version     string
	policy      string // maxmemory-policy
	cluster     bool
	maxClients  int
	timeout     time.Duration // negative: unknown
	credentials error         // why the proxy's own commands are refused; nil: they are not
}

// askUpstream connects with the proxy's own credentials and asks. Its error means
// that Redis was not reached; that it refuses the credentials is a fact.
func askUpstream(ctx context.Context, rdb *redis.Client) (upstreamFacts, error) {
	facts := upstreamFacts{timeout: -1}
	info, err := rdb.Info(ctx).Result()
	switch {
	case refused(err):
		facts.credentials = err
		return facts, nil
	case err != nil && !withheld(err): // also "max number of clients reached", or protected mode
		return facts, err
	}
	facts.readInfo(info)
	if got, err := rdb.ConfigGet(ctx, "timeout").Result(); err == nil {
		if n, err := strconv.Atoi(got["timeout"]); err == nil {
			facts.timeout = time.Duration(n) * time.Second
		}
	}
	return facts, nil
}

// embeddedFacts are those of the embedded Redis, which can't be asked.
func embeddedFacts() upstreamFacts {
	return upstreamFacts{kind: "embedded miniredis", version: moduleVersion("github.com/alicebob/miniredis/v2")}
}

// refused reports whether err is Redis's answer to wrong or missing credentials:
// NOAUTH, WRONGPASS, and before Redis 6 a sentence about AUTH.
func refused(err error) bool {
	return isReply(err) && (strings.Contains(err.Error(), "AUTH") || strings.Contains(err.Error(), "WRONGPASS"))
}

// withheld reports whether err is Redis's answer to a command that this user may
// not run, or nobody may (rename-command).
func withheld(err error) bool {
	return isReply(err) && (redis.HasErrorPrefix(err, "NOPERM") || strings.Contains(err.Error(), "unknown command"))
}

// isReply reports whether err is what Redis answered.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// readInfo takes what it knows from the reply to INFO.
func (f *upstreamFacts) readInfo(info string) {
	fields := map[string]string{}
	for lines := bufio.NewScanner(strings.NewReader(info)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	switch {
	case fields["valkey_version"] != "":
		f.kind, f.version = "Valkey", fields["valkey_version"]
	case fields["dragonfly_version"] != "":
		f.kind, f.version = "Dragonfly", fields["dragonfly_version"]
	case strings.Contains(fields["executable"], "keydb"):
		f.kind, f.version = "KeyDB", fields["redis_version"]
	case fields["redis_version"] != "":
		f.kind, f.version = "Redis", fields["redis_version"]
	}
	f.policy = fields["maxmemory_policy"]
	f.cluster = fields["cluster_enabled"] == "1"
	f.maxClients, _ = strconv.Atoi(fields["maxclients"])
}

// name of the upstream for the log.
func (f *upstreamFacts) name() string {
	if f.kind == "" {
		return "a Redis that doesn't tell its version"
	}
	return strings.TrimSpace(f.kind + " " + f.version)
}

// report logs that Redis was reached, and what about it is dangerous.
func (f *upstreamFacts) report(c *config, maxClients int, log *slog.Logger) {
	log.Info("redis is reached", "upstream", c.upstream.String(), "server", f.name())
	if f.credentials != nil {
		f.reportCredentials(c, log)
	}
	if f.policy != "" && f.policy != "noeviction" {
		log.Warn("redis may evict locks while they are held; set maxmemory-policy noeviction there", "maxmemory-policy", f.policy)
	}
	if f.cluster {
		log.Warn("redis is a cluster node; only a standalone Redis is supported, clients will be redirected past the proxy")
	}
	if f.maxClients > 0 && maxClients > f.maxClients {
		log.Warn("maxclients is larger than redis's own, which will refuse the rest; lower it here or raise it there", "maxclients", maxClients, "redis", f.maxClients)
	}
}

func (f *upstreamFacts) reportCredentials(c *config, log *slog.Logger) {
	what := "redis refuses the proxy's own credentials; set upstream-user and upstream-password right"
	if _, password := c.credentials(); password == "" {
		what = "redis wants credentials for the proxy's own connections; set upstream-user and upstream-password"
	}
	log.Warn(what+" (until then everything else is relayed, and KS commands answer KSUNAVAILABLE)", "err", f.credentials)
}

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = time.Second
)

// reachUpstream asks until Redis answers, after a first attempt that ended with err.
// It logs why Redis can't be reached: at first, and when the reason changes. Its
// only error is that ctx ended.
func reachUpstream(ctx context.Context, c *config, rdb *redis.Client, log *slog.Logger, err error) (upstreamFacts, error) {
	said := ""
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		if ctx.Err() != nil {
			return upstreamFacts{}, context.Cause(ctx)
		}
		if reason := err.Error(); reason != said {
			said = reason
			log.Warn("redis can't be reached; trying again, clients are closed meanwhile", "upstream", c.upstream.String(), "err", err)
		}
		pause(ctx, wait/2+rand.N(wait/2))
		var facts upstreamFacts
		if facts, err = askUpstream(ctx, rdb); err == nil {
			return facts, nil
		}
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
