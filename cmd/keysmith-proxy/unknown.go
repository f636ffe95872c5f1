package main

import (
	"fmt"
	"slices"
	"strings"
)

// redisDirectives are the directives of redis-server 7 and 8 that we don't have,
// for those who start the proxy with the file of their Redis.
var redisDirectives = strings.Fields(`
acl-pubsub-default aclfile acllog-max-len active-defrag-cycle-max active-defrag-cycle-min
active-defrag-ignore-bytes active-defrag-max-scan-fields active-defrag-threshold-lower
active-defrag-threshold-upper active-expire-effort activedefrag activerehashing
always-show-logo aof-disable-auto-gc aof-load-truncated aof-rewrite-incremental-fsync
aof-timestamp-enabled aof-use-rdb-preamble aof_rewrite_cpulist appenddirname appendfilename
appendfsync appendonly auto-aof-rewrite-min-size auto-aof-rewrite-percentage bgsave_cpulist
bind-source-addr bio_cpulist busy-reply-threshold client-output-buffer-limit
client-query-buffer-limit cluster-allow-pubsubshard-when-down
cluster-allow-reads-when-down cluster-allow-replica-migration cluster-announce-bus-port
cluster-announce-hostname cluster-announce-human-nodename cluster-announce-ip
cluster-announce-port cluster-announce-tls-port cluster-config-file cluster-enabled
cluster-link-sendbuf-limit cluster-migration-barrier cluster-node-timeout cluster-port
cluster-preferred-endpoint-type cluster-replica-no-failover cluster-replica-validity-factor
cluster-require-full-coverage cluster-slave-no-failover cluster-slave-validity-factor
crash-log-enabled crash-memcheck-enabled daemonize databases dbfilename dir disable-thp
dynamic-hz enable-debug-command enable-module-command enable-protected-configs
hash-max-listpack-entries hash-max-listpack-value hash-max-ziplist-entries
hash-max-ziplist-value hide-user-data-from-log hll-sparse-max-bytes hz ignore-warnings
io-threads io-threads-do-reads jemalloc-bg-thread key-load-delay latency-monitor-threshold
latency-tracking latency-tracking-info-percentiles lazyfree-lazy-eviction
lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del lazyfree-lazy-user-flush
lfu-decay-time lfu-log-factor list-compress-depth list-max-listpack-size
list-max-ziplist-size loadmodule locale-collate lua-time-limit masterauth masteruser
max-new-connections-per-cycle max-new-tls-connections-per-cycle maxmemory maxmemory-clients
maxmemory-eviction-tenacity maxmemory-policy maxmemory-samples min-replicas-max-lag
min-replicas-to-write min-slaves-max-lag min-slaves-to-write no-appendfsync-on-rewrite
notify-keyspace-events oom-score-adj oom-score-adj-values pidfile primaryauth primaryuser
proc-title-template propagation-error-behavior proto-max-bulk-len rdb-del-sync-files
rdb-save-incremental-fsync rdb-version-check rdbchecksum rdbcompression rename-command
repl-backlog-size repl-backlog-ttl repl-disable-tcp-nodelay repl-diskless-load
repl-diskless-sync repl-diskless-sync-delay repl-diskless-sync-max-replicas
repl-diskless-sync-period repl-ping-replica-period repl-ping-slave-period repl-timeout
replica-announce-ip replica-announce-port replica-announced replica-ignore-disk-write-errors
replica-ignore-maxmemory replica-lazy-flush replica-priority replica-read-only
replica-serve-stale-data replicaof requirepass sanitize-dump-payload save sentinel
server_cpulist set-max-intset-entries set-max-listpack-entries set-max-listpack-value
set-proc-title shutdown-on-sigint shutdown-on-sigterm shutdown-timeout slave-announce-ip
slave-announce-port slave-ignore-maxmemory slave-lazy-flush slave-priority slave-read-only
slave-serve-stale-data slaveof slowlog-log-slower-than slowlog-max-len socket-mark-id
stop-writes-on-bgsave-error stream-node-max-bytes stream-node-max-entries supervised
syslog-enabled syslog-facility syslog-ident tcp-backlog tls-ca-cert-dir tls-ciphers
tls-ciphersuites tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-cluster
tls-dh-params-file tls-key-file-pass tls-prefer-server-ciphers tls-protocols tls-replication
tls-session-cache-size tls-session-cache-timeout tls-session-caching tracking-table-max-keys
unixsocketgroup user zset-max-listpack-entries zset-max-listpack-value
zset-max-ziplist-entries zset-max-ziplist-value`)

// redisHints says what to do instead, where there is more to say than that a
// directive belongs to the Redis behind.
var redisHints = map[string]string{
	"requirepass":               "clients authenticate with the Redis behind; set it there, and upstream-password here for the proxy's own connections",
	"user":                      "clients authenticate with the Redis behind; define users there, and set upstream-user and upstream-password here for the proxy's own connections",
	"aclfile":                   "clients authenticate with the Redis behind; define users there",
	"masterauth":                "the proxy's own credentials are upstream-user and upstream-password",
	"masteruser":                "the proxy's own credentials are upstream-user and upstream-password",
	"replicaof":                 "name the Redis behind with upstream",
	"slaveof":                   "name the Redis behind with upstream",
	"daemonize":                 "the proxy stays in the foreground; a service manager runs it in the background",
	"supervised":                "the proxy stays in the foreground; run it as a service of type exec",
	"pidfile":                   "the proxy stays in the foreground; a service manager knows its pid",
	"io-threads":                "the number of threads is set with threads",
	"syslog-enabled":            "log lines go to standard error or to logfile",
	"tls-ca-cert-dir":           "write all authorities into one file and name it with tls-ca-cert-file",
	"tls-key-file-pass":         "keys must not be encrypted",
	"tls-client-cert-file":      "certificates for Redis are set with upstream-tls-cert-file and upstream-tls-key-file",
	"tls-client-key-file":       "certificates for Redis are set with upstream-tls-cert-file and upstream-tls-key-file",
	"tls-protocols":             "TLS 1.2 and 1.3 are spoken",
	"proto-max-bulk-len":        "the proxy has no limit of its own; set it on the Redis behind",
	"client-query-buffer-limit": "the proxy has no limit of its own; set it on the Redis behind",
}

// unknown says what is wrong with a directive that is not in the table. name is
// in lower case. What would be right is the nearest name, if one is near.
func unknown(name string) string {
	if slices.Contains(redisDirectives, name) {
		hint := redisHints[name]
		if hint == "" {
			hint = "set it on the Redis behind if it is needed"
		}
		return fmt.Sprintf("%s is a directive of redis-server that keysmith-proxy doesn't have; %s", name, hint)
	}
	clean := nameOnly(name)
	if clean != name && lookup(clean) != nil {
		return fmt.Sprintf("%s: a blank must separate the directive from its value", clean)
	}
	what := "there is a line that doesn't begin with a directive"
	if clean != "" {
		what = fmt.Sprintf("unknown directive %q", clean)
	}
	if near := nearest(strings.ReplaceAll(clean, "_", "-")); near != "" {
		return what + "; did you mean " + near + "?"
	}
	return what + "; --help lists all directives"
}

// nameOnly returns the beginning of s that could be a directive's name. What
// follows it may be a value, and values may be secrets.
func nameOnly(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
	if end >= 0 {
		s = s[:end]
	}
	return s[:min(len(s), 40)]
}

// nearest returns the directive or option that name is most likely a misspelling of, or
// nothing: one letter may be wrong, and one more in each three.
func nearest(name string) string {
	best, bestDistance := "", len(name)/3+2
	for _, candidate := range slices.Concat(directiveNames(), actions, []string{"include"}) {
		if n := distance(name, candidate); n < bestDistance {
			best, bestDistance = candidate, n
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
