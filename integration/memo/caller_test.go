package memo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keysmith-proxy/keysmith-proxy/integration/harness"
	"github.com/keysmith-proxy/keysmith-proxy/integration/stage"
)

// callerEnv, in the environment, makes this test binary a client: its value is an address and a command, in
// words. It prints the reply and stays until it is killed.
const callerEnv = "KEYSMITH_TEST_CALLER"

func call() {
	addr, command, _ := strings.Cut(os.Getenv(callerEnv), " ")
	nc, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = io.WriteString(nc, harness.Command(strings.Fields(command)...))
	}
	if err == nil {
		_, err = io.Copy(os.Stdout, nc)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// caller is a process of its own that has sent one command.
type caller struct {
	cmd    *exec.Cmd
	output *bufio.Reader
}

func startCaller(t *testing.T, addr string, command ...string) *caller {
	t.Helper()
	p := &caller{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), callerEnv+"="+addr+" "+strings.Join(command, " "))
	output, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill(t) })
	p.output = bufio.NewReader(output)
	return p
}

// reply waits for the reply, an array of two bulk strings.
func (p *caller) reply(t *testing.T) any {
	t.Helper()
	var all strings.Builder
	for range 5 {
		line, err := p.output.ReadString('\n')
		if err != nil {
			t.Fatalf("the process is answered %q: %v", all.String(), err)
		}
		all.WriteString(line)
	}
	return stage.Parse(t, all.String())
}

// kill ends the process with SIGKILL and waits for it.
func (p *caller) kill(t *testing.T) {
	t.Helper()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}
