package system_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/lake"
	azstore "github.com/kluis-io/kluis/objstore/azblob"
	"github.com/kluis-io/kluis/objstore/objtest"
	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/s3"
	"github.com/kluis-io/kluis/objstore/servertest"
)

// elsewhere makes the environment's servers keep their extents in a store: address is
// the setting objects, credential the content of the file beside it.
func elsewhere(t *testing.T, address, credential string) {
	t.Helper()
	t.Setenv("KLUIS_OBJECTS", address)
	t.Setenv("KLUIS_OBJECTS_CREDENTIAL", credentialFile(t, credential))
}

func credentialFile(t *testing.T, credential string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credential")
	must(t, os.WriteFile(file, []byte(credential), 0o600))
	return file
}

// inS3 starts an S3 store in which the environment's servers keep their extents.
func inS3(t *testing.T) *servertest.Server {
	t.Helper()
	server := servertest.Versity(t)
	elsewhere(t, s3Address(server.Place, "lab", server.URL), s3Credential(server))
	return server
}

// s3Address is a setting for what lies below a prefix of a store at an endpoint.
func s3Address(place, prefix, endpoint string) string {
	return "s3://" + place + "/" + prefix + "?region=us-east-1&endpoint=" + url.QueryEscape(endpoint)
}

func s3Credential(server *servertest.Server) string {
	return "[default]\naws_access_key_id = " + server.Account + "\naws_secret_access_key = " + server.Key + "\n"
}

// azureAddress and azureCredential are the same for Azurite.
func azureAddress(server *servertest.Server, prefix string) string {
	return "azblob://" + server.Account + "/" + server.Place + "/" + prefix + "?endpoint=" + url.QueryEscape(server.URL)
}

func azureCredential(server *servertest.Server) string { return `{"accountKey": "` + server.Key + `"}` }

func TestObjectsInS3(t *testing.T) {
	server := inS3(t)
	objects, err := s3.Open(t.Context(), s3.Config{
		Bucket: server.Place, Prefix: "lab", Endpoint: server.URL, Region: "us-east-1", Credentials: os.Getenv("KLUIS_OBJECTS_CREDENTIAL"), HTTP: remote.HTTPClient(nil),
	})
	must(t, err)
	testObjects(t, server, objects, func(id string) {
		old := time.Now().Add(-25 * time.Hour)
		must(t, os.Chtimes(filepath.Join(server.Dir, server.Place, "lab", id), old, old))
	})
}

func TestObjectsInAzureBlob(t *testing.T) {
	server := servertest.Azurite(t)
	elsewhere(t, azureAddress(server, "lab"), azureCredential(server))
	objects, err := azstore.Open(azstore.Config{
		Account: server.Account, Container: server.Place, Prefix: "lab", Endpoint: server.URL, Key: server.Key, HTTP: remote.HTTPClient(nil),
	})
	must(t, err)
	testObjects(t, server, objects, nil)
}

// testObjects runs a platform whose extents lie in a store: what requests cost there,
// restarts, re-encryption, a store that fails, orphans and the check. age makes an
// object a day old, where the store can be told to.
func testObjects(t *testing.T, server *servertest.Server, objects lake.Objects, age func(id string)) {
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.readBack(ctx))
	if _, err := os.Stat(filepath.Join(s.data, "platform", "extents")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a local folder of extents: %v", err)
	}

	const name, size = "lake.Lakehouse/Files/counted.bin", 40 << 20
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	read := func(offset, count int64) {
		t.Helper()
		out, err := s.engineer.Blobs.DownloadStream(ctx, s.container, name, &azblob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: offset, Count: count}})
		must(t, err)
		defer out.Body.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(out.Body); err != nil || !bytes.Equal(got.Bytes(), body[offset:offset+count]) {
			t.Errorf("%d bytes of %d from %d come back: %v", got.Len(), count, offset, err)
		}
	}
	for _, c := range []struct {
		what string
		want int
		do   func()
	}{
		{"PUT of 16 KiB", 0, func() { s.put(ctx, t, "lake.Lakehouse/Files/inline.bin", body[:16_000]) }},
		{"PUT of 1 MiB", 1, func() { s.put(ctx, t, "lake.Lakehouse/Files/medium.bin", body[:1<<20]) }},
		{"PUT of 40 MiB", parts(server, 6), func() { s.put(ctx, t, name, body) }},
		{"GET of 40 KiB at the beginning", 1, func() { read(0, 40<<10) }},
		{"GET of 4 KiB in the middle", 2, func() { read(20<<20, 4<<10) }},
		{"GET of 40 MiB", 9, func() { read(0, size) }},
		{"HEAD", 0, func() {
			_, err := s.engineer.Blobs.ServiceClient().NewContainerClient(s.container).NewBlobClient(name).GetProperties(ctx, nil)
			must(t, err)
		}},
		{"DELETE", 0, func() {
			_, err := s.engineer.Blobs.DeleteBlob(ctx, s.container, name, nil)
			must(t, err)
			delete(s.files, name)
		}},
	} {
		server.Reset(nil)
		c.do()
		n := 0
		for _, call := range server.Calls() {
			if !slices.Contains([]string{"GET uploads", "GET list-type", "GET comp=list"}, call) { // the sweeper's
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s costs %d requests, want %d: %v", c.what, n, c.want, server.Calls())
		}
	}

	p.stop(t)
	p = start(t, s.data, s.port)
	must(t, s.readBack(ctx))

	// Each fifth request fails, or loses its answer, while everything is re-encrypted.
	server.Reset(func(_ *http.Request, n int) servertest.Fault {
		if n%5 == 0 {
			return servertest.Fault(1 + n/5%3)
		}
		return servertest.None
	})
	must(t, s.assign(ctx))
	s.put(ctx, t, "lake.Lakehouse/Files/meanwhile.bin", body[:3<<20])
	s.await(ctx, t, "Active")
	must(t, s.readBack(ctx))
	server.Reset(nil)

	orphan := objtest.ID()
	objtest.Put(t, objects, orphan, []byte("left by a crash"))
	p.stop(t)
	out := s.fsck(t)
	if !strings.Contains(out, "Nothing is wrong.") || !strings.Contains(out, orphan+": No row names it") {
		t.Errorf("fsck says\n%s", out)
	}
	if age != nil {
		age(orphan)
		p = start(t, s.data, s.port)
		eventually(ctx, t, 30*time.Second, func() error {
			if objtest.Get(t, objects, orphan) != nil {
				return errors.New("the orphan is still there")
			}
			return nil
		})
		must(t, s.readBack(ctx))
		p.stop(t)
	}
	wrongPlaces(ctx, t, s)
}

// parts is what an upload of n parts costs.
func parts(s *servertest.Server, n int) int {
	if s.Dir != "" {
		return n + 2 // S3 begins and ends it
	}
	return n + 1
}

// wrongPlaces checks that neither the platform's place nor that of another installation
// can be mistaken for it.
func wrongPlaces(ctx context.Context, t *testing.T, s *site) {
	t.Helper()
	address := os.Getenv("KLUIS_OBJECTS")
	for _, c := range []struct{ why, data, address, want string }{
		{"no store is configured", s.data, "", "the extents of this platform lie in"},
		{"another prefix is", s.data, strings.Replace(address, "/lab", "/other", 1), "the extents of this platform lie in"},
		{"another installation", filepath.Join(t.TempDir(), "other"), address, "belongs to another installation"},
	} {
		cmd := exec.CommandContext(ctx, build(t), "serve", "--dev", "--data", c.data, "--listen", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "KLUIS_OBJECTS="+c.address)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.why, err, out)
		}
	}
}
