// Package effort says how hard tests try: how often they repeat what chance decides, and
// what becomes of those that lack something.
package effort

import (
	"os"
	"testing"
)

// Of returns quick by default, ci where CI=true, and where KLUIS_EFFORT=full, full: what
// the figures of docs/benchmarks.md were taken with.
func Of(quick, ci, full int) int {
	switch {
	case os.Getenv("KLUIS_EFFORT") == "full":
		return full
	case os.Getenv("CI") == "true":
		return ci
	}
	return quick
}

// Missing skips a test that lacks something, and says loudly what is not tested for want
// of it. In CI, where .ci/run installs all, it fails the test.
func Missing(tb testing.TB, what, untested string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("%s is missing; .ci/run provides it", what)
	}
	tb.Skipf("SKIPPED: %s is missing, so that NOT TESTED is %s", what, untested)
}
