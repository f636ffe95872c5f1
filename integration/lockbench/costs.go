package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// usage is what has been used up so far.
type usage struct {
	at           time.Time
	proxy, redis time.Duration // on a core
	calls        process.Calls
}

func (b *bench) usage(ctx context.Context) (u usage, err error) {
	if u.proxy, err = process.CPUTime(b.proxies[0].Pid()); err != nil {
		return u, err
	}
	if u.redis, err = process.CPUTime(b.redis.Pid()); err != nil {
		return u, err
	}
	stats, err := b.admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return u, err
	}
	u.calls = process.ParseCalls(stats)
	u.at = time.Now()
	return u, nil
}

// costs prints what a KS.LOCK that need not wait and its KS.UNLOCK cost, and a
// KS.MEMO that hits beside a GET.
func (b *bench) costs(ctx context.Context) error {
	c := b.dial(0)
	defer c.Close()
	if err := b.admin.Set(ctx, "bench:value", "v", 0).Err(); err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\n\ttime\tCPU of proxy\tCPU of Redis\tcalls in Redis (within scripts, too)")
	for _, m := range []struct {
		name string
		do   func() error
	}{
		{"KS.LOCK + KS.UNLOCK", func() error {
			g := lock(ctx, c, "bench:cost")
			if g.err != nil {
				return g.err
			}
			return unlock(ctx, c, "bench:cost", g)
		}},
		{"KS.MEMO, a hit", func() error { return c.Do(ctx, "KS.MEMO", "bench:value").Err() }},
		{"GET", func() error { return c.Get(ctx, "bench:value").Err() }},
	} {
		if err := m.do(); err != nil { // warm: the script is known
			return fmt.Errorf("%s: %w", m.name, err)
		}
		before, err := b.usage(ctx)
		if err != nil {
			return err
		}
		for range b.pairs {
			if err := m.do(); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		after, err := b.usage(ctx)
		if err != nil {
			return err
		}
		each := func(d time.Duration) time.Duration { return rounded(d / time.Duration(b.pairs)) }
		fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%s\n", m.name, each(after.at.Sub(before.at)),
			each(after.proxy-before.proxy), each(after.redis-before.redis), after.calls.Since(before.calls).Each(b.pairs))
	}
	return table.Flush()
}
