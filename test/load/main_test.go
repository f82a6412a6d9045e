// Package load measures kluis's data plane as a client sees it and as the machine
// pays for it: rate, and CPU of the server process, of reads and writes over TLS.
// The same loads run against a bare file server and against Azurite, in turns, so
// that what the machine does meanwhile strikes all alike; the medians are told.
//
//	go test ./test/load -run '^$' -bench . -benchtime 5x
//
// runs five rounds of each cell, and prints a table of all in the end.
package load_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/kluis-io/kluis/internal/devtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(bareVariable) != "" {
		if err := serveBare(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	fmt.Print(&results)
	devtest.Clean()
	os.Exit(code)
}
