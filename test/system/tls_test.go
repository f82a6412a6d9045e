package system_test

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/internal/devtest"
)

// Clients speak TLS 1.3; old ones are let in where the operator says so.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	for least, want := range map[string]map[uint16]bool{
		"":    {tls.VersionTLS11: false, tls.VersionTLS12: false, tls.VersionTLS13: true},
		"1.2": {tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true},
	} {
		var env []string
		if least != "" {
			env = []string{"KLUIS_TLS=" + least}
		}
		port := devtest.FreePort(t)
		p := start(t, filepath.Join(t.TempDir(), "data"), port, env...)
		for version, ok := range want {
			c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true}) // whether it is spoken, and no more
			if (err == nil) != ok {
				t.Errorf("with least version %q, %s: %v", least, tls.VersionName(version), err)
			}
			if err == nil {
				c.Close()
			}
		}
		p.stop(t)
	}
}
