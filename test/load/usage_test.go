package load_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// tick is the unit of CPU time in /proc: 10 ms, on every Linux that matters.
const tick = 10 * time.Millisecond

// cpu returns the CPU time that a process has used so far, in user and system mode.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ") // behind the program's name
	var user, system int64
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		t.Fatalf("the system does not say what CPU process %d has used", pid)
	}
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	must(t, err)
	return time.Duration(user+system) * tick
}

// memory returns a process's resident memory in bytes, now and at its peak since
// the last resetPeak.
func memory(t testing.TB, pid int) (now, peak int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &now)
		fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	if now == 0 || peak == 0 {
		t.Fatalf("the system does not say what memory process %d holds", pid)
	}
	return now << 10, peak << 10
}

func resetPeak(t testing.TB, pid int) {
	t.Helper()
	must(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
}
