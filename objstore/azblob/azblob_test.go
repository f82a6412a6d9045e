package azblob_test

import (
	"testing"

	"github.com/kluis-io/kluis/objstore/azblob"
	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/servertest"
)

func TestAzurite(t *testing.T) {
	server := servertest.Azurite(t)
	servertest.Run(t, server, servertest.Requests{
		Put:      "PUT",
		PutLarge: "PUT comp=block, PUT comp=block, PUT comp=block, PUT comp=blocklist",
		Get:      "GET",
		Range:    "GET, GET",
		Delete:   "DELETE",
		List:     "GET comp=list",
	}, func(t *testing.T, place, key, prefix string) *remote.Store {
		s, err := azblob.Open(azblob.Config{
			Account: server.Account, Container: place, Prefix: prefix, Endpoint: server.URL, Key: key, HTTP: remote.HTTPClient(nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
