package clients

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
)

// goRedis runs the cases of go-redis with a RESP version.
func goRedis(protocol int) func(*testing.T, *server) {
	return func(t *testing.T, on *server) {
		on.named("go-redis " + redis.Version())
		g := &goRedisCases{server: on, protocol: protocol}
		on.reportAll(t, []testCase{
			{"setup", g.setup},
			{"values", g.values},
			{"pipeline", g.pipeline},
			{"multi", g.multi},
			{"multi-aborted", g.multiAborted},
			{"pubsub", g.pubsub},
			{"blocking", g.blocking},
			{"script", g.script},
			{"scan", g.scan},
			{"tracking", g.tracking},
			{"large", g.large},
			{"wrong-password", g.wrongPassword},
			{"killed", g.killed},
			{"restart", g.restarted},
			{"ks-lock", g.lock},
			{"ks-queue", g.queue},
			{"ks-memo", g.memo},
			{"ks-order", g.order},
			{"ks-restart", g.lockAfterRestart},
		})
	}
}

// A testCase is a case written in Go.
type testCase struct {
	name string
	body func(t *testing.T)
}

// reportAll runs cases one after the other; those of ours only through the proxy.
func (s *server) reportAll(t *testing.T, cases []testCase) {
	for _, c := range cases {
		if s.ks || !strings.HasPrefix(c.name, "ks-") {
			s.report(t, c.name, c.body)
		}
	}
}

type goRedisCases struct {
	*server
	protocol int
}

// connect returns a client with the library's defaults.
func (g *goRedisCases) connect(t *testing.T, change ...func(*redis.Options)) *redis.Client {
	options := &redis.Options{Addr: g.addr, Protocol: g.protocol}
	for _, f := range change {
		f(options)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

func inDB(db int) func(*redis.Options) {
	return func(o *redis.Options) { o.DB = db }
}

// patient is what a caller of KS.LOCK sets: replies take as long as the wait.
func patient(o *redis.Options) { o.ReadTimeout, o.MaxRetries = -1, -1 }

func (g *goRedisCases) setup(t *testing.T) {
	client := g.connect(t, inDB(1), func(o *redis.Options) { o.ClientName = "ks-client" })
	want(t, client.Ping(t.Context()), "PONG")
	info, err := client.ClientInfo(t.Context()).Result()
	noError(t, err)
	equal(t, fmt.Sprint(info.Name, info.DB, info.Resp), fmt.Sprint("ks-client", 1, g.protocol))
	server, err := client.Info(t.Context(), "server").Result()
	noError(t, err)
	equal(t, strings.Contains(server, "redis_version:"), true)
	want(t, client.ConfigGet(t.Context(), "save"), map[string]string{"save": ""})
	want(t, client.Echo(t.Context(), ""), "")
	commands, err := client.Command(t.Context()).Result()
	noError(t, err)
	equal(t, commands["get"].FirstKeyPos, int8(1))
}

func (g *goRedisCases) values(t *testing.T) {
	client := g.connect(t)
	var everyByte strings.Builder
	for b := range 256 {
		everyByte.WriteByte(byte(b))
	}
	want(t, client.Set(t.Context(), everyByte.String(), everyByte.String(), 0), "OK")
	want(t, client.Get(t.Context(), everyByte.String()), everyByte.String())
	fails(t, client.Get(t.Context(), "values:none"), redis.Nil.Error())
	want(t, client.HSet(t.Context(), "values:hash", "a", "1", "b", ""), 2)
	want(t, client.HGetAll(t.Context(), "values:hash"), map[string]string{"a": "1", "b": ""})
	want(t, client.ZAdd(t.Context(), "values:zset", redis.Z{Score: 1.5, Member: "x"}, redis.Z{Score: 2, Member: "y"}), 2)
	want(t, client.ZRangeWithScores(t.Context(), "values:zset", 0, -1), []redis.Z{{Score: 1.5, Member: "x"}, {Score: 2, Member: "y"}})
	id, err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "values:stream", Values: []string{"f", "v"}}).Result()
	noError(t, err)
	want(t, client.XRange(t.Context(), "values:stream", "-", "+"), []redis.XMessage{{ID: id, Values: map[string]any{"f": "v"}}})
	want(t, client.IncrBy(t.Context(), "values:count", 1<<62), 1<<62)
	want(t, client.Incr(t.Context(), "values:count"), 1<<62+1)
	fails(t, client.LPush(t.Context(), "values:hash", "x"), "WRONGTYPE")
	fails(t, client.Do(t.Context(), "NOSUCH"), "unknown command 'NOSUCH'")
}

func (g *goRedisCases) pipeline(t *testing.T) {
	client := g.connect(t)
	replies, err := client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for i := range 10_000 {
			pipe.Set(t.Context(), fmt.Sprint("pipeline:", i%100), i, 0)
			pipe.Incr(t.Context(), "pipeline:n")
		}
		return nil
	})
	noError(t, err)
	for i, reply := range replies {
		if count, ok := reply.(*redis.IntCmd); ok {
			equal(t, count.Val(), int64(i/2+1))
		}
	}
	const callers, calls = 50, 200 // over a pool of connections
	errs := make(chan error, callers)
	for caller := range callers {
		go func() {
			for call := range calls {
				text := fmt.Sprint(caller, ":", call)
				if got, err := client.Echo(t.Context(), text).Result(); got != text {
					errs <- fmt.Errorf("echo %q: %v %w", text, got, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		noError(t, <-errs)
	}
}

func (g *goRedisCases) multi(t *testing.T) {
	client := g.connect(t)
	replies, err := client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Set(t.Context(), "multi:k", "v", 0)
		pipe.Get(t.Context(), "multi:k")
		pipe.LPush(t.Context(), "multi:k", "x")
		return nil
	})
	equal(t, strings.HasPrefix(fmt.Sprint(err), "WRONGTYPE"), true)
	equal(t, replies[1].(*redis.StringCmd).Val(), "v")
	_, err = client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Set(t.Context(), "multi:k", "w", 0)
		pipe.Do(t.Context(), "NOSUCH")
		return nil
	})
	equal(t, err != nil, true)
	want(t, client.Get(t.Context(), "multi:k"), "v")
}

func (g *goRedisCases) multiAborted(t *testing.T) {
	client, other := g.connect(t), g.connect(t)
	set := func(interfere bool) error {
		return client.Watch(t.Context(), func(tx *redis.Tx) error {
			if interfere {
				want(t, other.Set(t.Context(), "aborted:k", "theirs", 0), "OK")
			}
			_, err := tx.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
				return pipe.Set(t.Context(), "aborted:k", "ours", 0).Err()
			})
			return err
		}, "aborted:k")
	}
	equal(t, set(true), error(redis.TxFailedErr))
	want(t, client.Get(t.Context(), "aborted:k"), "theirs")
	noError(t, set(false))
	want(t, client.Get(t.Context(), "aborted:k"), "ours")
}

func (g *goRedisCases) pubsub(t *testing.T) {
	client := g.connect(t)
	subscriber := client.Subscribe(t.Context(), "pubsub:a", "pubsub:b")
	defer subscriber.Close()
	noError(t, subscriber.PSubscribe(t.Context(), "pubsub:p*"))
	for range 3 {
		g.receive(t, subscriber)
	}
	for i := range 100 {
		want(t, client.Publish(t.Context(), "pubsub:b", i), 1)
	}
	for i := range 100 {
		equal(t, g.receive(t, subscriber).(*redis.Message).Payload, fmt.Sprint(i))
	}
	want(t, client.Publish(t.Context(), "pubsub:px", "by pattern"), 1)
	equal(t, g.receive(t, subscriber).(*redis.Message).Pattern, "pubsub:p*")
	noError(t, subscriber.Ping(t.Context(), "still there"))
	equal(t, g.receive(t, subscriber).(*redis.Pong).Payload, "still there")
	noError(t, subscriber.Unsubscribe(t.Context()))
	equal(t, g.receive(t, subscriber).(*redis.Subscription).Kind, "unsubscribe")

	sharded := client.SSubscribe(t.Context(), "pubsub:shard")
	defer sharded.Close()
	g.receive(t, sharded)
	want(t, client.SPublish(t.Context(), "pubsub:shard", "sharded"), 1)
	equal(t, g.receive(t, sharded).(*redis.Message).Payload, "sharded")
}

// subscribe returns a subscriber and the id of its connection.
func (g *goRedisCases) subscribe(t *testing.T, channel string) (*redis.PubSub, int64) {
	t.Helper()
	client := g.connect(t, func(o *redis.Options) { o.ClientName = "subscriber-of-" + channel })
	subscriber := client.Subscribe(t.Context(), channel)
	g.receive(t, subscriber)
	list, err := g.connect(t).ClientList(t.Context()).Result()
	noError(t, err)
	found := regexp.MustCompile(`id=(\d+) .*name=subscriber-of-` + channel).FindStringSubmatch(list)
	id, err := strconv.ParseInt(found[1], 10, 64)
	noError(t, err)
	return subscriber, id
}

// receive returns what a subscriber is told next.
func (g *goRedisCases) receive(t *testing.T, subscriber *redis.PubSub) any {
	t.Helper()
	message, err := subscriber.ReceiveTimeout(t.Context(), harness.Patience)
	noError(t, err)
	return message
}

func (g *goRedisCases) blocking(t *testing.T) {
	client := g.connect(t)
	fails(t, client.BLPop(t.Context(), time.Second, "blocking:none"), redis.Nil.Error())
	popped := background(func() ([]string, error) {
		return client.BRPop(t.Context(), 0, "blocking:a", "blocking:b").Result()
	})
	g.blocked(t, client)
	want(t, client.LPush(t.Context(), "blocking:b", "v"), 1)
	equal(t, popped.value(t), []string{"blocking:b", "v"})
	read := background(func() ([]redis.XStream, error) {
		return client.XRead(t.Context(), &redis.XReadArgs{Streams: []string{"blocking:s", "$"}, Block: 0}).Result()
	})
	g.blocked(t, client)
	noError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: "blocking:s", Values: []string{"f", "v"}}).Err())
	equal(t, read.value(t)[0].Messages[0].Values, map[string]any{"f": "v"})
}

// blocked waits until a client is blocked inside Redis.
func (g *goRedisCases) blocked(t *testing.T, client *redis.Client) {
	t.Helper()
	eventually(t, "a client is blocked", func() bool {
		info, err := client.Info(t.Context(), "clients").Result()
		return err == nil && !strings.Contains(info, "blocked_clients:0\r\n")
	})
}

func (g *goRedisCases) script(t *testing.T) {
	client := g.connect(t)
	addAll := redis.NewScript("for i = 1, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end return redis.call('LRANGE', KEYS[1], 0, -1)")
	want(t, addAll.Run(t.Context(), client, []string{"script:list"}, "a", "b"), any([]any{"a", "b"}))
	want(t, client.ScriptFlush(t.Context()), "OK") // EVALSHA now answers NOSCRIPT, and the library falls back to EVAL
	want(t, addAll.Run(t.Context(), client, []string{"script:list"}, "c"), any([]any{"a", "b", "c"}))
	fails(t, client.Eval(t.Context(), "return redis.error_reply('MINE no')", nil), "MINE no")
	const code = "#!lua name=script\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"
	want(t, client.FunctionLoadReplace(t.Context(), code), "script")
	want(t, client.FCall(t.Context(), "twice", nil, 21), any(int64(42)))
}

func (g *goRedisCases) scan(t *testing.T) {
	client := g.connect(t, inDB(2))
	pairs := make([]any, 0, 10_000)
	for i := range 5_000 {
		pairs = append(pairs, fmt.Sprint("scan:", i), i)
	}
	want(t, client.MSet(t.Context(), pairs...), "OK")
	seen := map[string]bool{}
	for keys := client.Scan(t.Context(), 0, "scan:*", 500).Iterator(); keys.Next(t.Context()); {
		seen[keys.Val()] = true
	}
	equal(t, len(seen), 5_000)
	want(t, client.HSet(t.Context(), "scanned", pairs...), 5_000)
	fields := 0
	for it := client.HScan(t.Context(), "scanned", 0, "", 500).Iterator(); it.Next(t.Context()); {
		fields++
	}
	equal(t, fields, 10_000) // names and values
}

// tracking uses the library's own cache, which needs RESP3; with RESP2 it is
// tracking by redirection to a subscriber.
func (g *goRedisCases) tracking(t *testing.T) {
	other := g.connect(t)
	want(t, other.Set(t.Context(), "tracking:k", "first", 0), "OK")
	if g.protocol == 2 {
		g.trackingByRedirection(t, other)
		return
	}
	cache := redis.NewLocalCache(redis.CacheConfig{MaxEntries: 100})
	client := g.connect(t, func(o *redis.Options) { o.ClientSideCache = cache })
	want(t, client.Get(t.Context(), "tracking:k"), "first")
	eventually(t, "the value is cached", func() bool { return cache.Len() == 1 })
	want(t, other.Set(t.Context(), "tracking:k", "changed", 0), "OK")
	eventually(t, "the cached value is invalidated", func() bool {
		return client.Ping(t.Context()).Err() == nil && cache.Len() == 0
	})
	want(t, client.Get(t.Context(), "tracking:k"), "changed")
}

func (g *goRedisCases) trackingByRedirection(t *testing.T, other *redis.Client) {
	subscriber, id := g.subscribe(t, "__redis__:invalidate")
	defer subscriber.Close()
	client := g.connect(t).Conn()
	defer client.Close()
	want(t, client.Do(t.Context(), "CLIENT", "TRACKING", "ON", "REDIRECT", id), any("OK"))
	want(t, client.Get(t.Context(), "tracking:k"), "first")
	want(t, other.Set(t.Context(), "tracking:k", "changed", 0), "OK")
	equal(t, g.receive(t, subscriber).(*redis.Message).PayloadSlice, []string{"tracking:k"})
}

func (g *goRedisCases) large(t *testing.T) {
	client := g.connect(t)
	value := make([]byte, 10<<20)
	rand.NewChaCha8([32]byte{}).Read(value)
	want(t, client.Set(t.Context(), "large:k", value, 0), "OK")
	for range 3 {
		got, err := client.Get(t.Context(), "large:k").Bytes()
		noError(t, err)
		equal(t, bytes.Equal(got, value), true)
	}
	want(t, client.Del(t.Context(), "large:k"), 1)
}

func (g *goRedisCases) wrongPassword(t *testing.T) {
	noError(t, g.connect(t).Do(t.Context(), "ACL", "SETUSER", "go-redis", "on", ">right", "~*", "&*", "+@all").Err())
	login := func(password string) *redis.Client {
		return g.connect(t, func(o *redis.Options) { o.Username, o.Password = "go-redis", password })
	}
	fails(t, login("wrong").Ping(t.Context()), "WRONGPASS")
	want(t, login("right").Do(t.Context(), "ACL", "WHOAMI"), any("go-redis"))
}

// killed: the server closes the connections of a client and its subscriber.
func (g *goRedisCases) killed(t *testing.T) {
	admin := g.connect(t)
	client := g.connect(t, func(o *redis.Options) { o.ClientName, o.PoolSize = "to-be-killed", 1 })
	first, err := client.ClientID(t.Context()).Result()
	noError(t, err)
	subscriber, id := g.subscribe(t, "killed")
	defer subscriber.Close()
	heard := subscriber.Channel(redis.WithChannelHealthCheckInterval(50 * time.Millisecond))
	for _, victim := range []int64{first, id} {
		want(t, admin.ClientKillByFilter(t.Context(), "ID", strconv.FormatInt(victim, 10)), 1)
	}
	second, err := client.ClientID(t.Context()).Result() // retried on a new connection
	noError(t, err)
	equal(t, second != first, true)
	want(t, client.ClientGetName(t.Context()), "to-be-killed")
	eventually(t, "the subscriber is back", func() bool {
		return admin.Publish(t.Context(), "killed", "again").Val() == 1
	})
	equal(t, (<-heard).Payload, "again")
}

func (g *goRedisCases) restarted(t *testing.T) {
	client := g.connect(t)
	popped := background(func() ([]string, error) {
		return client.BLPop(t.Context(), 0, "restart:list").Result()
	})
	g.blocked(t, client)
	g.restart()
	eventually(t, "the client works again", func() bool {
		return client.Set(t.Context(), "restart:k", "v", 0).Err() == nil
	})
	want(t, client.Get(t.Context(), "restart:k"), "v")
	// go-redis sends BLPOP again, and gives up only if Redis is away for too long.
	want(t, client.LPush(t.Context(), "restart:list", "v"), 1)
	if got, err := popped.wait(t); err == nil {
		equal(t, got, []string{"restart:list", "v"})
	}
}

func (g *goRedisCases) lock(t *testing.T) {
	client := g.connect(t)
	token, fence := granted(t, client.Do(t.Context(), "KS.LOCK", "lock", "PX", 60_000))
	equal(t, token != "" && fence > 0, true)
	fails(t, client.Do(t.Context(), "KS.LOCK", "lock", "NOWAIT"), redis.Nil.Error())
	fails(t, client.Do(t.Context(), "ks.lock", "lock", "WAIT", 50), redis.Nil.Error())
	want(t, client.Do(t.Context(), "KS.UNLOCK", "lock", "not the token"), any(int64(0)))
	want(t, client.Do(t.Context(), "KS.UNLOCK", "lock", token), any(int64(1)))
	want(t, client.Do(t.Context(), "KS.UNLOCK", "lock", token), any(int64(0)))
	fails(t, client.Do(t.Context(), "KS.LOCK"), "ERR wrong number of arguments for 'ks.lock' command")
	fails(t, client.Do(t.Context(), "KS.LOCK", "lock", "PX"), "ERR syntax error")
}

func (g *goRedisCases) queue(t *testing.T) {
	client := g.connect(t, patient)
	token, fence := granted(t, client.Do(t.Context(), "KS.LOCK", "queue"))
	var waiting []*future[any]
	for i := range 3 {
		waiting = append(waiting, background(func() (any, error) {
			return client.Do(t.Context(), "KS.LOCK", "queue", "PX", 60_000).Result()
		}))
		g.queued(t, client, "queue", i+1)
	}
	for _, next := range waiting {
		want(t, client.Do(t.Context(), "KS.UNLOCK", "queue", token), any(int64(1)))
		reply := next.value(t).([]any)
		equal(t, reply[1].(int64) > fence, true)
		token, fence = reply[0].(string), reply[1].(int64)
	}
	want(t, client.Do(t.Context(), "KS.UNLOCK", "queue", token), any(int64(1)))
}

// queued waits until n callers stand in line for name.
func (g *goRedisCases) queued(t *testing.T, client *redis.Client, name string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d callers wait for %s", n, name), func() bool {
		return client.LLen(t.Context(), name+"/lockwaiting").Val() == int64(n)
	})
}

func (g *goRedisCases) memo(t *testing.T) {
	client := g.connect(t, patient)
	reply, err := client.Do(t.Context(), "KS.MEMO", "memo").StringSlice()
	noError(t, err)
	equal(t, reply[0], "generate")
	var waiting []*future[[]string]
	for range 2 {
		waiting = append(waiting, background(func() ([]string, error) {
			return client.Do(t.Context(), "KS.MEMO", "memo").StringSlice()
		}))
	}
	g.queued(t, client, "memo", 2)
	want(t, client.Do(t.Context(), "KS.RESOLVE", "memo", reply[1], "the value", "PX", 60_000), any(int64(1)))
	for _, answer := range waiting {
		equal(t, answer.value(t), []string{"value", "the value"})
	}
	want(t, client.Do(t.Context(), "KS.MEMO", "memo"), any([]any{"value", "the value"}))
	want(t, client.Get(t.Context(), "memo"), "the value")
	want(t, client.Do(t.Context(), "KS.RESOLVE", "memo", reply[1], "late"), any(int64(0)))
}

// order: ours act in order with the commands around them, and not in MULTI.
func (g *goRedisCases) order(t *testing.T) {
	client := g.connect(t, inDB(3))
	pipe := client.Pipeline()
	pipe.Set(t.Context(), "order:k", 1, 0)
	lock := pipe.Do(t.Context(), "KS.LOCK", "order", "NOWAIT")
	first := pipe.Incr(t.Context(), "order:k")
	refused := pipe.Do(t.Context(), "KS.LOCK", "order", "NOWAIT")
	second := pipe.Incr(t.Context(), "order:k")
	exists := pipe.Exists(t.Context(), "order/lock")
	_, err := pipe.Exec(t.Context())
	equal(t, errors.Is(err, redis.Nil), true) // of the lock that was refused
	token, _ := granted(t, lock)
	fails(t, refused, redis.Nil.Error())
	equal(t, []int64{first.Val(), second.Val(), exists.Val()}, []int64{2, 3, 1})
	_, err = client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		return pipe.Do(t.Context(), "KS.UNLOCK", "order", token).Err()
	})
	equal(t, err != nil, true)
	want(t, client.Do(t.Context(), "KS.UNLOCK", "order", token), any(int64(1)))
	help, err := client.Do(t.Context(), "KS.HELP").StringSlice()
	noError(t, err)
	equal(t, strings.Contains(strings.ToUpper(strings.Join(help, "\n")), "KS.LOCK"), true)
}

func (g *goRedisCases) lockAfterRestart(t *testing.T) {
	client := g.connect(t, patient)
	g.restart()
	var token string
	eventually(t, "KS.LOCK works again", func() bool {
		lock := client.Do(t.Context(), "KS.LOCK", "restarted", "NOWAIT")
		if lock.Err() == nil {
			token, _ = granted(t, lock)
		}
		return lock.Err() == nil
	})
	waiting := background(func() (any, error) {
		return client.Do(t.Context(), "KS.LOCK", "restarted").Result()
	})
	g.queued(t, client, "restarted", 1)
	want(t, client.Do(t.Context(), "KS.UNLOCK", "restarted", token), any(int64(1)))
	equal(t, len(waiting.value(t).([]any)), 2)
}

// granted takes the reply of KS.LOCK apart.
func granted(t *testing.T, lock *redis.Cmd) (token string, fence int64) {
	t.Helper()
	reply, err := lock.Slice()
	noError(t, err)
	equal(t, len(reply), 2)
	return reply[0].(string), reply[1].(int64)
}
