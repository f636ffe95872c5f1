package proxy

import (
	"bytes"
	"net"
	"time"
)

// denied is what Redis itself says to remote clients in protected mode
// (networking.c), in its words.
const denied = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set " +
	"for the default user. In this mode connections are only accepted from the loopback interface. If you want to " +
	"connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable " +
	"protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting " +
	"to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from " +
	"internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just " +
	"disable the protected mode by editing the Redis configuration file, and setting the protected mode option to " +
	"'no', and then restarting the server. 3) If you started the server manually just for testing, restart it " +
	"with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You " +
	"only need to do one of the above things in order for the server to start accepting connections from the " +
	"outside.\r\n"

// denied reports whether protected mode keeps the client out, and tells it so:
// a proxy beside Redis would make every remote client look local to it. Redis
// is asked on the client's own connection, before anything is relayed.
func (s *session) denied(upstream net.Conn) bool {
	cfg := &s.srv.cfg
	if !cfg.ProtectedMode || !cfg.UpstreamLocal || local(s.socket.RemoteAddr()) || !open(upstream) {
		return false
	}
	s.srv.log.Warn("protected mode: remote client refused", "client", s.addr())
	refuse(s.conn, denied)
	return true
}

// local reports whether addr is a loopback address or a Unix socket.
func local(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// open reports whether Redis runs commands on conn without authentication.
func open(conn net.Conn) bool {
	conn.SetDeadline(time.Now().Add(dialTimeout))
	defer conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return true
	}
	line := make([]byte, 0, 256)
	for !bytes.HasSuffix(line, []byte("\n")) && len(line) < cap(line) {
		n, err := conn.Read(line[len(line) : len(line)+1])
		if err != nil {
			return true
		}
		line = line[:len(line)+n]
	}
	return !bytes.HasPrefix(line, []byte("-NOAUTH"))
}
