package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/keysmith-proxy/keysmith-proxy/integration/process"
)

// client is a connection that takes as little of the cores as possible, which it shares with what is measured.
type client struct {
	net.Conn
	in *bufio.Reader
}

// patience bounds whatever takes moments.
const patience = time.Minute

func dial(to *process.Server) (*client, error) {
	conn, err := net.DialTimeout("tcp", to.Addr(), patience)
	if err != nil {
		return nil, err
	}
	return &client{conn, bufio.NewReaderSize(conn, 512)}, nil
}

func command(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

func (c *client) send(args ...string) error {
	c.SetDeadline(time.Now().Add(patience))
	_, err := c.Write(command(args...))
	return err
}

// do sends a command and returns its reply: one string, or those of a flat array. nil is "nil".
func (c *client) do(args ...string) ([]string, error) {
	if err := c.send(args...); err != nil {
		return nil, err
	}
	return c.reply()
}

func (c *client) reply() ([]string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	body := strings.TrimSuffix(line[1:], "\r\n")
	n, _ := strconv.Atoi(body)
	switch {
	case line[0] == '-':
		return nil, fmt.Errorf("error reply %q", body)
	case line[0] == '+' || line[0] == ':':
		return []string{body}, nil
	case n < 0:
		return []string{"nil"}, nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.in, b)
		return []string{string(b[:n])}, err
	}
	var all []string
	for range n {
		element, err := c.reply()
		if err != nil {
			return nil, err
		}
		all = append(all, element...)
	}
	return all, nil
}

// generate gets the promise of a name at once.
func (c *client) generate(name string, options ...string) (token string, err error) {
	got, err := c.do(append([]string{"KS.MEMO", name}, options...)...)
	if err == nil && (len(got) != 2 || got[0] != "generate") {
		err = fmt.Errorf("KS.MEMO answers %.80q", got)
	}
	if err != nil {
		return "", err
	}
	return got[1], nil
}

// resolve keeps a promise.
func (c *client) resolve(name, token, value string, options ...string) error {
	got, err := c.do(append([]string{"KS.RESOLVE", name, token, value}, options...)...)
	if err == nil && (len(got) != 1 || got[0] != "1") {
		err = fmt.Errorf("KS.RESOLVE answers %.80q", got)
	}
	return err
}
