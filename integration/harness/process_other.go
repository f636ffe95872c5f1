//go:build !linux

package harness

import "os/exec"

func startBound(cmd *exec.Cmd) error { return cmd.Start() }
