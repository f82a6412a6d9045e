package effort

import (
	"fmt"
	"strings"
	"testing"
)

// Proof logs figures in the form that test/proof reads from a test's output, as names and
// values by turns: whole numbers, which it adds up over runs, or durations and numbers whose
// names end in "-at-most" or "-in-all", of which it keeps the greatest.
func Proof(tb testing.TB, figures ...any) {
	tb.Helper()
	var line strings.Builder
	for i := 0; i+1 < len(figures); i += 2 {
		fmt.Fprintf(&line, " %s=%v", figures[i], figures[i+1])
	}
	tb.Log("proof:" + line.String())
}
