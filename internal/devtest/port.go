package devtest

import (
	"testing"

	"github.com/kluis-io/kluis/internal/porttest"
)

// FreePort is [porttest.Free] for a test.
func FreePort(tb testing.TB) string {
	tb.Helper()
	port, err := porttest.Free()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}
