package harness

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// RemoteAddr reports whether the server has a connection open whose other end
// is addr, over IPv4.
func (p *Process) RemoteAddr(t testing.TB, addr string) bool {
	t.Helper()
	want := netip.MustParseAddrPort(addr)
	octets := want.Addr().Unmap().As4()
	remote := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(octets[:]), want.Port())
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	var sockets map[string]bool
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 10 || f[2] != remote {
			continue
		}
		if sockets == nil {
			sockets = p.sockets(t)
		}
		if sockets[f[9]] {
			return true
		}
	}
	return false
}

// sockets are the inodes of the sockets that the process has open.
func (p *Process) sockets(t testing.TB) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.Pid())
	open, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	for _, fd := range open {
		target, err := os.Readlink(dir + "/" + fd.Name())
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if err == nil && isSocket {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}
