// Package effort says how often a test repeats what chance decides: few times by
// default, more often in CI, and as often as its figure in docs/benchmarks.md was taken
// with when that is asked for.
package effort

import "os"

// Of returns quick; ci where CI=true; full where KLUIS_EFFORT=full.
func Of(quick, ci, full int) int {
	switch {
	case os.Getenv("KLUIS_EFFORT") == "full":
		return full
	case os.Getenv("CI") == "true":
		return ci
	}
	return quick
}
