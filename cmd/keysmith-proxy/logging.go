package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/redis/go-redis/v9"
)

// Redis's four levels on slog's scale, so that Debug, Info and Warn of the other
// packages are debug, notice and warning, and slog.Level(-2) is verbose.
const (
	levelDebug   = slog.LevelDebug
	levelVerbose = slog.Level(-2)
	levelNotice  = slog.LevelInfo
	levelWarning = slog.LevelWarn
)

var levelNames = []string{"debug", "verbose", "notice", "warning"}

func levelName(l slog.Level) string {
	switch {
	case l < levelVerbose:
		return "debug"
	case l < levelNotice:
		return "verbose"
	case l < levelWarning:
		return "notice"
	}
	return "warning"
}

// openLog returns the logger that the configuration asks for, and the function
// that closes its file. An empty logfile means stderr.
func openLog(c *config, stderr io.Writer) (*slog.Logger, func() error, error) {
	if c.logFile == "" {
		return newLogger(stderr, c.logLevel), func() error { return nil }, nil
	}
	f, err := os.OpenFile(c.logFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, c.wrong("logfile", "%w", err)
	}
	return newLogger(f, c.logLevel), f.Close, nil
}

// newLogger writes key=value lines with Redis's level names.
func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if l, ok := a.Value.Any().(slog.Level); ok && a.Key == slog.LevelKey && len(groups) == 0 {
				a.Value = slog.StringValue(levelName(l))
			}
			return a
		},
	}))
}

// clientLog takes what go-redis would write to standard error on its own: mostly
// failed dials, which the log tells at a higher level and once.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, levelDebug) {
		l.log.Log(ctx, levelDebug, "redis client: "+fmt.Sprintf(format, v...))
	}
}

func logRedisClient(log *slog.Logger) { redis.SetLogger(clientLog{log}) }
