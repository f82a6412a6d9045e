package system_test

import (
	"bytes"

	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
)

// A flock are canaries: random words that are given to the server as one thing or
// another, and must not be found where they do not belong.
type flock map[string]string // the word, and what it was given as

func (f flock) hatch(as string) string {
	b := make([]byte, 12)
	rand.Read(b)
	word := fmt.Sprintf("canary%x", b)
	f[word] = as
	return word
}

// seen returns what of the flock is in the text, in any of the forms in which text is
// carried.
func (f flock) seen(text []byte) (found []string) {
	for word, as := range f {
		for n := range 3 { // base64 of it, wherever it begins
			pad := strings.Repeat("-", n)
			whole := base64.StdEncoding.EncodeToString([]byte(pad + word + "---"))
			if form := whole[4 : len(whole)-4]; bytes.Contains(text, []byte(form)) {
				found = append(found, as+", in base64")
			}
		}
		if bytes.Contains(text, []byte(word)) || bytes.Contains(text, []byte(strings.ToUpper(word))) {
			found = append(found, as)
		}
	}
	return found
}

// Nothing of what a tenant puts on the platform is readable in the data folder, while
// the server runs and afterwards, nor in its log at its most talkative; what a caller
// shows to prove who he is, is in neither.
func TestCanaries(t *testing.T) {
	t.Parallel()
	if os.Getenv("KLUIS_TEST_STORE") == "postgres" {
		t.Skip("does not apply: it searches the files of a data directory, and the rows lie in none")
	}
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, "KLUIS_LOG=debug")
	s.connect(t)
	s.furnish(ctx, t)
	sealed := flock{}  // in neither place
	visible := flock{} // not in the log
	rounds := effort.Of(1, 2, 100)
	for i := range rounds {
		var made struct {
			ID string `json:"id"`
		}
		workspace := visible.hatch("a workspace's name")
		must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": workspace, "description": sealed.hatch("a workspace's description")}, &made))
		id := made.ID
		lakehouse := sealed.hatch("an item's name")
		must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+id+"/items", map[string]string{
			"displayName": lakehouse, "type": "Lakehouse", "description": sealed.hatch("an item's description"),
		}, &made))
		must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+id+"/items", map[string]any{
			"displayName": sealed.hatch("an item's name"), "type": "Notebook",
			"definition": map[string]any{"parts": []map[string]string{{
				"path": sealed.hatch("the path of a definition's part"), "payloadType": "InlineBase64",
				"payload": base64.StdEncoding.EncodeToString([]byte(strings.Repeat(sealed.hatch("a definition")+" ", 500))),
			}}},
		}, &made))
		for _, size := range []int{1, 1000, 300_000} { // in a row, in a row, in blocks
			path := lakehouse + ".Lakehouse/Files/" + sealed.hatch("a folder's name") + "/" + sealed.hatch("a file's name")
			_, err := s.engineer.Blobs.UploadBuffer(ctx, workspace, path, []byte(strings.Repeat(sealed.hatch("content")+" ", size)), &azblob.UploadBufferOptions{
				BlockSize:   1 << 20,
				HTTPHeaders: &blob.HTTPHeaders{BlobContentDisposition: to.Ptr(sealed.hatch("a header")), BlobContentType: to.Ptr(sealed.hatch("a content type"))},
				Metadata:    map[string]*string{sealed.hatch("the name of metadata"): to.Ptr(sealed.hatch("metadata"))},
			})
			must(t, err)
			block := s.engineer.Blobs.ServiceClient().NewContainerClient(workspace).NewBlockBlobClient(path + sealed.hatch("a file's name"))
			_, err = block.StageBlock(ctx, base64.StdEncoding.EncodeToString([]byte(sealed.hatch("a block's id"))), nopCloser{strings.NewReader(strings.Repeat(sealed.hatch("a staged block")+" ", size))}, nil)
			must(t, err)
			s.engineer.Blobs.DownloadStream(ctx, workspace, path+sealed.hatch("the name of what is not there"), nil)
			for range 2 {
				_, err = s.engineer.Blobs.NewListBlobsFlatPager(workspace, &azblob.ListBlobsFlatOptions{Prefix: to.Ptr(lakehouse + ".Lakehouse/"), MaxResults: to.Ptr[int32](1)}).NextPage(ctx)
				must(t, err)
			}
		}
		if i == 0 { // under a customer's key too, and re-encrypted on the way
			must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+id+"/encryption/assign", map[string]string{"keyIdentifier": s.identifier}, nil))
		}
	}
	// Whose texts they are not: they are made by the server.
	secret := flock{}
	for name, p := range s.clients.Target.Principals {
		secret[strings.TrimPrefix(p.ClientSecret, "kluis_")] = "the secret of " + name
	}
	token, err := s.clients.Credential("engineer")
	must(t, err)
	got, err := token.GetToken(ctx, tokenFor("https://storage.azure.com/.default"))
	must(t, err)
	secret[got.Token[len(got.Token)-40:]] = "a token's signature"

	files := s.searched(t, sealed, visible, secret)
	p.stop(t)
	files += s.searched(t, sealed, visible, secret)
	for what, f := range map[string]flock{"sealed": sealed, "visible": visible, "secret": secret} {
		if found := f.seen(p.log.Bytes()); len(found) > 0 {
			t.Errorf("in the log, of what is %s: %v", what, found)
		}
	}
	if !bytes.Contains(p.log.Bytes(), []byte(`"msg":"serving"`)) {
		t.Error("the log is empty: it proves nothing")
	}
	effort.Proof(t, "canaries", len(sealed)+len(visible)+len(secret), "files-searched", files, "found", 0)
}

// searched searches all files of the data folder, and returns how many there are. What
// is not sealed, the names of workspaces, has to be found: it shows that the search sees.
func (s *site) searched(t *testing.T, sealed, visible, secret flock) (n int) {
	t.Helper()
	blind := true
	must(t, filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		blind = blind && len(visible.seen(text)) == 0
		found := sealed.seen(text)
		if filepath.Base(path) != "bootstrap.json" { // which is there to tell secrets
			found = append(found, secret.seen(text)...)
		}
		if len(found) > 0 {
			t.Errorf("readable in %s: %v", filepath.Base(path), found)
		}
		return nil
	}))
	if blind {
		t.Error("what is not sealed is not found either: the search is blind")
	}
	return n
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func tokenFor(scope string) policy.TokenRequestOptions {
	return policy.TokenRequestOptions{Scopes: []string{scope}}
}
