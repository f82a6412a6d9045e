// Package servertest starts real object stores for tests, each behind a [Proxy] that
// counts what it is asked and makes it fail. They listen on the loopback alone.
//
// They take a minute to install, so that tests which need them run with CI=true, or
// where the environment names what is installed already.
//
// [Objects] and [Variables] are for tests of what lies above the stores: they run in
// folders, or in the store that KLUIS_TEST_OBJECTS names, as `make suite` does.
package servertest

import (
	"os"
	"testing"
)

// A Server is a running object store.
type Server struct {
	*Proxy
	*Process
}

// begin starts a store for a test, or skips the test where it would have to be installed
// without CI=true.
func begin(t *testing.T, kind, variable, name string) *Server {
	t.Helper()
	if os.Getenv(variable) == "" && os.Getenv("CI") != "true" {
		t.Skipf("needs %s: set %s to an installed one, or CI=true to install it", name, variable)
	}
	p, err := Start(t.Context(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &Server{newProxy(t, p.port), p}
}

// Versity starts versitygw, which speaks S3, on a folder, with a bucket in it.
func Versity(t *testing.T) *Server {
	t.Helper()
	return begin(t, S3, gatewayVariable, "versitygw")
}

// Azurite starts Azurite's Blob service, with a container in it.
func Azurite(t *testing.T) *Server {
	t.Helper()
	s := begin(t, Azure, azuriteVariable, "Azurite")
	s.Proxy.URL += "/" + azuriteAccount // as Azurite has it in the path, and not in the host's name
	return s
}
