package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
)

var modelLine = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

// machine says on what the figures were taken.
func machine() string {
	what := fmt.Sprintf("%d cores", runtime.NumCPU())
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := modelLine.FindSubmatch(text); m != nil {
			what += " " + string(m[1])
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		what += ", " + runtime.GOOS + " " + strings.TrimSpace(string(text))
	}
	version := runtime.Version()
	if text, err := exec.Command("go", "env", "GOVERSION").Output(); err == nil {
		version = strings.TrimSpace(string(text))
	}
	return what + ", " + version
}
