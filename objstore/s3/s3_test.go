package s3_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/s3"
	"github.com/kluis-io/kluis/objstore/servertest"
)

func open(t *testing.T, c s3.Config) *remote.Store {
	t.Helper()
	c.Region, c.HTTP = "us-east-1", remote.HTTPClient(nil)
	s, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// credentials writes a file as the AWS tools have it.
func credentials(t *testing.T, id, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	text := "[default]\naws_access_key_id = " + id + "\naws_secret_access_key = " + secret + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestVersity(t *testing.T) {
	server := servertest.Versity(t)
	servertest.Run(t, server, servertest.Requests{
		Put:      "PUT",
		PutLarge: "POST uploads, PUT uploadId partNumber, PUT uploadId partNumber, PUT uploadId partNumber, POST uploadId",
		Get:      "GET",
		Range:    "GET, GET",
		Delete:   "DELETE",
		List:     "GET uploads, GET list-type",
	}, func(t *testing.T, place, key, prefix string) *remote.Store {
		return open(t, s3.Config{Bucket: place, Prefix: prefix, Endpoint: server.URL, Credentials: credentials(t, server.Account, key)})
	})
}
