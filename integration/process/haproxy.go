package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const haproxyConfig = `
global
    nbthread 1
    maxconn %d
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen redis
    bind 127.0.0.1:%d
    server redis 127.0.0.1:%d
`

// StartHAProxy starts an haproxy in TCP mode in front of redis, with one thread, for as many as maxconn
// clients; dir is for its configuration. The error is exec's ErrNotFound if it is not installed.
func StartHAProxy(ctx context.Context, dir string, redis *Server, maxconn int) (*Server, error) {
	port := FreePort()
	config := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, haproxyConfig, maxconn, port, redis.Port), 0o600); err != nil {
		return nil, err
	}
	return Start(ctx, port, FindSystem("haproxy"), "-db", "-f", config)
}

// FindSystem finds a daemon also where users other than root usually don't look.
func FindSystem(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		if path := filepath.Join("/usr/sbin", program); exec.Command(path, "-v").Run() == nil {
			return path
		}
	}
	return program
}
