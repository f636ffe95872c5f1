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
// what a connection begins with.
func parseClientInfo(reply any) clientInfo {
	text, _ := reply.(string)
	info := clientInfo{resp: 2}
	for field := range strings.FieldsSeq(text) {
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
// have taken another name.
func (s *session) Peer(ctx context.Context) (engine.Peer, error) {
	if s.peer != nil {
		return *s.peer, nil
	}
	v, err := s.Do(ctx, "CLIENT", "INFO")
	var refused engine.RedisError
	if err != nil && !errors.As(err, &refused) {
		return engine.Peer{}, err
	}
	info := parseClientInfo(v)
	s.peer = &engine.Peer{Addr: s.clientAddr(), Name: info.name, ID: info.id, Upstream: info.addr}
	return *s.peer, nil
}

// clientAddr is the address of the client, or the path of the Unix socket it uses.
func (s *session) clientAddr() string {
	if local, ok := s.socket.LocalAddr().(*net.UnixAddr); ok {
		return local.Name
	}
	return s.addr()
}
