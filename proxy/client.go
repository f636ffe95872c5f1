package proxy

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/keysmith-proxy/keysmith-proxy/engine"
)

// clientInfo is what Redis's CLIENT INFO says of a connection.
type clientInfo struct {
	id         int64
	addr, name string
	db, resp   int
}

// parseClientInfo reads a reply of CLIENT INFO; what it does not say is zero, or
// what a connection begins with. Only a space ends a field, as no name of a
// client or user may hold one, but for instance U+00A0.
func parseClientInfo(reply any) clientInfo {
	text, _ := reply.(string)
	info := clientInfo{resp: 2}
	for field := range strings.SplitSeq(strings.TrimRight(text, "\r\n"), " ") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "id":
			info.id, _ = strconv.ParseInt(value, 10, 64)
		case "addr":
			info.addr = value
		case "name":
			info.name = value
		case "db":
			info.db, _ = strconv.Atoi(value)
		case "resp":
			info.resp, _ = strconv.Atoi(value)
		}
	}
	return info
}

// Peer says who the client is. Redis is asked once, and again after the client may
// have taken another name: nothing is in flight while a command of ours runs, so
// that such a request was sent is enough to know. A refusal is an answer, too, but
// for NOAUTH, which is returned.
func (s *session) Peer(ctx context.Context) (engine.Peer, error) {
	if s.peer != nil {
		return *s.peer, nil
	}
	v, err := s.Do(ctx, "CLIENT", "INFO")
	var refused engine.RedisError
	if err != nil && !errors.As(err, &refused) {
		return engine.Peer{}, err
	}
	if strings.HasPrefix(string(refused), "NOAUTH") {
		return engine.Peer{}, refused
	}
	info := parseClientInfo(v)
	s.peer = &engine.Peer{Addr: s.clientAddr(), Name: info.name, ID: info.id, Upstream: info.addr}
	s.vetted = true
	return *s.peer, nil
}

// clientAddr is the address of the client, or the path of the Unix socket it uses.
func (s *session) clientAddr() string {
	if local, ok := s.socket.LocalAddr().(*net.UnixAddr); ok {
		return local.Name
	}
	return s.addr()
}
