package blob_test

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/storagewire/wiretest"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A canned lake gives the same answers to everybody. What a test does not can,
// must not be asked.
type canned struct {
	blob.Lake
	err        error
	properties lake.Properties
	listing    lake.Listing
	blocks     lake.BlockList
	containers []lake.ContainerProperties

	options   lake.ListOptions // that came
	put       lake.PutOptions
	committed []lake.BlockRef
	kind      lake.Kind
}

func (c *canned) ListContainers(context.Context, identity.Caller, string, string) ([]lake.ContainerProperties, error) {
	return c.containers, c.err
}

func (c *canned) CreateContainer(context.Context, identity.Caller, lake.Path, map[string]string) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{ETag: `"0xC"`}, c.err
}

func (c *canned) SetContainerMetadata(context.Context, identity.Caller, lake.Path, map[string]string, lake.Conditions) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{ETag: `"0xC"`}, c.err
}

func (c *canned) DeleteContainer(context.Context, identity.Caller, lake.Path, lake.Conditions) error {
	return c.err
}

func (c *canned) Container(context.Context, identity.Caller, lake.Path, lake.Conditions) (lake.ContainerProperties, error) {
	return lake.ContainerProperties{ETag: `"0xC"`}, c.err
}

func (c *canned) Stat(context.Context, identity.Caller, lake.Path, lake.Conditions) (lake.Properties, error) {
	return c.properties, c.err
}

func (c *canned) Open(context.Context, identity.Caller, lake.Path, lake.Conditions, lake.Range) (*lake.Content, error) {
	return nil, c.err
}

func (c *canned) Put(_ context.Context, _ identity.Caller, _ lake.Path, body io.Reader, _ int64, o lake.PutOptions) (lake.Properties, error) {
	c.put = o
	if _, err := io.Copy(io.Discard, body); err != nil {
		return lake.Properties{}, err
	}
	return c.properties, c.err
}

func (c *canned) CommitBlocks(_ context.Context, _ identity.Caller, _ lake.Path, blocks []lake.BlockRef, o lake.PutOptions) (lake.Properties, error) {
	c.put, c.committed = o, blocks
	return c.properties, c.err
}

func (c *canned) Blocks(context.Context, identity.Caller, lake.Path) (lake.BlockList, error) {
	return c.blocks, c.err
}

func (c *canned) Create(_ context.Context, _ identity.Caller, _ lake.Path, k lake.Kind, o lake.PutOptions) (lake.Properties, error) {
	c.put, c.kind = o, k
	return c.properties, c.err
}

func (c *canned) List(_ context.Context, _ identity.Caller, _ lake.Path, o lake.ListOptions) (lake.Listing, error) {
	c.options = o
	return c.listing, c.err
}

func (c *canned) Delete(context.Context, identity.Caller, lake.Path, bool, lake.Conditions) error {
	return c.err
}

// ask sends one request with a good token; headers come as "Name: value".
func ask(l blob.Lake, method, target, body string, headers ...string) *http.Response {
	return wiretest.Ask(blob.New(l, wiretest.Tokens{}, wiretest.Config), method, target, body, headers...)
}

// Every reason has its row, and looks as a storage client expects: in XML, and in
// the headers alone for HEAD.
func TestFaults(t *testing.T) {
	wiretest.Faults(t, blob.Faults, "/ws/i.Lakehouse/Files/a", func(err error) http.Handler {
		return blob.New(&canned{err: err}, wiretest.Tokens{}, wiretest.Config)
	}, func(body string) (string, string) {
		var e struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
			Message string
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil {
			t.Error(err)
		}
		return e.Code, e.Message
	})
	for reason, code := range map[fault.Reason]string{
		fault.KEKRefused:      "KeyVaultEncryptionKeyNotFound",
		fault.KEKVaultGone:    "KeyVaultVaultNotFound",
		fault.KEKTokenRefused: "KeyVaultAccessTokenCannotBeAcquired",
		fault.KEKUnreachable:  "ServerBusy",
		fault.PathNotFound:    "BlobNotFound",
		fault.PathExists:      "BlobAlreadyExists",
	} {
		if got := blob.Faults[reason].Code; got != code {
			t.Errorf("%s is %s, want %s", reason, got, code)
		}
	}
}

// What is refused before the lake is asked: the canned lake would not answer.
func TestRefused(t *testing.T) {
	const path = "/ws/i.Lakehouse/Files/a"
	for _, tt := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		code                       string
	}{
		{"no token", "GET", path, "", []string{"Authorization: "}, 401, "NoAuthenticationInformation"},
		{"bad token", "GET", path, "", []string{"Authorization: Bearer x"}, 401, "InvalidAuthenticationInfo"},
		{"account key", "GET", path, "", []string{"Authorization: SharedKey a:b"}, 403, "AuthenticationFailed"},
		{"SAS", "GET", path + "?sig=x", "", []string{"Authorization: "}, 403, "AuthenticationFailed"},
		{"page blob", "PUT", path, "", []string{"x-ms-blob-type: PageBlob"}, 501, "NotImplemented"},
		{"append blob with a body", "PUT", path, "x", []string{"x-ms-blob-type: AppendBlob"}, 400, "InvalidHeaderValue"},
		{"no such type", "PUT", path, "", []string{"x-ms-blob-type: Snowball"}, 400, "InvalidHeaderValue"},
		{"no type", "PUT", path, "", nil, 400, "MissingRequiredHeader"},
		{"no length", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "Transfer-Encoding: chunked"}, 411, "MissingContentLengthHeader"},
		{"block without length", "PUT", path + "?comp=block&blockid=AA==", "x", []string{"Transfer-Encoding: chunked"}, 411, "MissingContentLengthHeader"},
		{"block without id", "PUT", path + "?comp=block", "x", nil, 400, "MissingRequiredQueryParameter"},
		{"structured body of another version", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-structured-body: XSM/2.0"}, 400, "UnsupportedHeader"},
		{"structured body without length", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-structured-body: XSM/1.0; properties=crc64"}, 400, "InvalidHeaderValue"},
		{"structured body with a hash", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-structured-body: XSM/1.0; properties=crc64", "x-ms-content-crc64: AAAAAAAAAAA="}, 400, "InvalidHeaderValue"},
		{"client's key", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-encryption-key: AAAA"}, 400, "UnsupportedHeader"},
		{"client's scope", "GET", path, "", []string{"x-ms-encryption-scope: s"}, 400, "UnsupportedHeader"},
		{"lease without action", "PUT", path + "?comp=lease", "", nil, 400, "MissingRequiredHeader"},
		{"lease for too long", "PUT", path + "?comp=lease", "", []string{"x-ms-lease-action: acquire", "x-ms-lease-duration: 61"}, 400, "InvalidHeaderValue"},
		{"lease with an odd id", "PUT", path + "?comp=lease", "", []string{"x-ms-lease-action: renew", "x-ms-lease-id: x"}, 400, "InvalidHeaderValue"},
		{"copy from elsewhere", "PUT", path, "", []string{"x-ms-copy-source: https://x/y"}, 404, "CannotVerifyCopySource"},
		{"copy of a container", "PUT", path, "", []string{"x-ms-copy-source: https://onelake.blob.test/ws"}, 400, "InvalidHeaderValue"},
		{"copy of nothing", "PUT", path, "", []string{"x-ms-copy-source: ws/a"}, 400, "InvalidHeaderValue"},
		{"copy by somebody unknown", "PUT", path, "", []string{"x-ms-copy-source: https://onelake.blob.test/ws/a/b", "x-ms-copy-source-authorization: Bearer bad"}, 403, "CannotVerifyCopySource"},
		{"copy of a snapshot", "PUT", path, "", []string{"x-ms-copy-source: https://onelake.blob.test/ws/a/b?snapshot=1"}, 501, "NotImplemented"},
		{"block from elsewhere", "PUT", path + "?comp=block&blockid=AA==", "", []string{"x-ms-copy-source: https://x/y"}, 404, "CannotVerifyCopySource"},
		{"append of nothing", "PUT", path + "?comp=appendblock", "", nil, 400, "InvalidHeaderValue"},
		{"seal", "PUT", path + "?comp=seal", "", nil, 501, "NotImplemented"},
		{"tags", "PUT", path + "?comp=tags", "<Tags/>", nil, 501, "NotImplemented"},
		{"undelete", "PUT", path + "?comp=undelete", "", nil, 501, "NotImplemented"},
		{"snapshot", "PUT", path + "?comp=snapshot", "", nil, 501, "NotImplemented"},
		{"read of a snapshot", "GET", path + "?snapshot=2026", "", nil, 501, "NotImplemented"},
		{"tier of none", "PUT", path + "?comp=tier", "", nil, 400, "MissingRequiredHeader"},
		{"batch of nothing", "POST", "/?comp=batch", "", nil, 400, "InvalidInput"},
		{"delegation key without times", "POST", "/?restype=service&comp=userdelegationkey", "<KeyInfo/>", nil, 400, "InvalidXmlNodeValue"},
		{"delegation key without XML", "POST", "/?restype=service&comp=userdelegationkey", "", nil, 400, "InvalidXmlDocument"},
		{"container's life", "DELETE", "/ws?restype=container", "", nil, 501, "NotImplemented"},
		{"odd method", "TRACE", path, "", nil, 405, "UnsupportedHttpVerb"},
		{"empty segment", "GET", "/ws/i.Lakehouse//a", "", nil, 400, "InvalidResourceName"},
		{"dots", "GET", "/ws/i.Lakehouse/../a", "", nil, 400, "InvalidResourceName"},
		{"twice", "GET", "/ws?restype=container&comp=list&prefix=a&Prefix=b", "", nil, 400, "InvalidQueryParameterValue"},
		{"delimiter", "GET", "/ws?restype=container&comp=list&delimiter=-", "", nil, 501, "NotImplemented"},
		{"page of none", "GET", "/ws?restype=container&comp=list&maxresults=0", "", nil, 400, "OutOfRangeQueryParameterValue"},
		{"range", "GET", path, "", []string{"Range: bytes=-0"}, 400, "InvalidHeaderValue"},
		{"metadata", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "x-ms-meta-a-b: c"}, 400, "InvalidMetadata"},
		{"two MD5s", "PUT", path, "x", []string{"x-ms-blob-type: BlockBlob", "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "x-ms-blob-content-md5: AQAAAAAAAAAAAAAAAAAAAA=="}, 400, "Md5Mismatch"},
		{"list's MD5", "PUT", path + "?comp=blocklist", "<BlockList/>", []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "Md5Mismatch"},
		{"list's CRC", "PUT", path + "?comp=blocklist", "<BlockList/>", []string{"x-ms-content-crc64: AAAAAAAAAAA="}, 400, "Crc64Mismatch"},
		{"list is no XML", "PUT", path + "?comp=blocklist", "<BlockList>", nil, 400, "InvalidXmlDocument"},
		{"kind of list", "GET", path + "?comp=blocklist&blocklisttype=some", "", nil, 400, "InvalidQueryParameterValue"},
	} {
		resp := ask(&forbidden{}, tt.method, tt.target, tt.body, tt.headers...)
		if resp.StatusCode != tt.status || resp.Header.Get("x-ms-error-code") != tt.code {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, resp.StatusCode, resp.Header.Get("x-ms-error-code"), tt.status, tt.code)
		}
		if challenge := resp.Header.Get("WWW-Authenticate"); (challenge != "") != (tt.status == 401) {
			t.Errorf("%s: WWW-Authenticate: %s", tt.name, challenge)
		}
	}
}

// forbidden panics when it is asked.
type forbidden struct{ blob.Lake }

func TestHeaders(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	l := &canned{properties: lake.Properties{
		Name: "i.Lakehouse/Files/a", Kind: lake.File, Size: 7, ETag: `"0x1"`, Created: at, Modified: at,
		Headers: lake.ContentHeaders{Type: "text/plain", Encoding: "gzip", MD5: make([]byte, 16)}, Metadata: map[string]string{"k": "v"},
	}}
	resp := ask(l, "HEAD", "/ws/i.Lakehouse/Files/a", "", "x-ms-version: 2020-10-02", "x-ms-client-request-id: me")
	want := http.Header{
		"Accept-Ranges": {"bytes"}, "Content-Encoding": {"gzip"}, "Content-Length": {"7"}, "Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="},
		"Content-Type": {"text/plain"}, "Etag": {`"0x1"`}, "Last-Modified": {"Sun, 22 Nov 2026 10:00:00 GMT"},
		"X-Ms-Blob-Type": {"BlockBlob"}, "X-Ms-Client-Request-Id": {"me"}, "X-Ms-Creation-Time": {"Sun, 22 Nov 2026 10:00:00 GMT"},
		"X-Ms-Group": {"$superuser"}, "X-Ms-Lease-State": {"available"}, "X-Ms-Lease-Status": {"unlocked"}, "x-ms-meta-k": {"v"},
		"X-Ms-Owner": {"$superuser"}, "X-Ms-Permissions": {"---------"}, "X-Ms-Request-Id": {""}, "X-Ms-Resource-Type": {"file"},
		"X-Ms-Server-Encrypted": {"true"}, "X-Ms-Version": {"2020-10-02"},
	}
	if diff := cmp.Diff(want, resp.Header); resp.StatusCode != 200 || diff != "" {
		t.Errorf("%d\n%s", resp.StatusCode, diff)
	}
	l.properties.Kind = lake.Folder
	mark := strings.ToLower("x-ms-meta-hdi_isfolder") // as it is written, and not as Go would
	if got := ask(l, "HEAD", "/ws/i.Lakehouse/Files", "").Header[mark]; !slices.Equal(got, []string{"true"}) {
		t.Errorf("a folder's mark: %q", got)
	}
}

func TestPut(t *testing.T) {
	l := &canned{properties: lake.Properties{ETag: `"0x1"`, CRC64: new(uint64)}}
	resp := ask(l, "PUT", "/ws/i.Lakehouse/Files/a", "hello", "x-ms-blob-type: BlockBlob", "Content-Type: text/a", "Content-Encoding: br",
		"x-ms-blob-content-type: text/b", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==", "x-ms-meta-k: v", "x-ms-access-tier: Cool", "If-Match: *")
	want := lake.PutOptions{
		Headers:    lake.ContentHeaders{Type: "text/b", Encoding: "br", MD5: l.put.Hashes.MD5},
		Metadata:   map[string]string{"k": "v"},
		Conditions: lake.Conditions{IfMatch: "*"},
		Hashes:     lake.Hashes{MD5: l.put.Hashes.MD5},
	}
	if diff := cmp.Diff(want, l.put); diff != "" || len(l.put.Hashes.MD5) != 16 {
		t.Error(diff)
	}
	for name, v := range map[string]string{
		"ETag": `"0x1"`, "Content-MD5": "XUFAKrxLKna5cZ2REBfFkg==", "x-ms-content-crc64": "AAAAAAAAAAA=",
		"x-ms-request-server-encrypted": "true", "x-ms-rejected-headers": "x-ms-access-tier",
	} {
		if got := resp.Header.Get(name); resp.StatusCode != 201 || got != v {
			t.Errorf("%d, %s is %q, want %q", resp.StatusCode, name, got, v)
		}
	}

	// An empty blob with the mark is a folder; the mark itself is not stored.
	resp = ask(l, "PUT", "/ws/i.Lakehouse/Files/d", "", "x-ms-blob-type: BlockBlob", "x-ms-meta-hdi_isfolder: true", "x-ms-meta-k: v")
	if diff := cmp.Diff(map[string]string{"k": "v"}, l.put.Metadata); resp.StatusCode != 201 || l.kind != lake.Folder || diff != "" {
		t.Errorf("%d, kind %d\n%s", resp.StatusCode, l.kind, diff)
	}

	// A create that lost its race is told so in the way that Delta's writers know.
	l.err = fault.New(fault.PreconditionFailed, "")
	resp = ask(l, "PUT", "/ws/i.Lakehouse/Files/d", "x", "x-ms-blob-type: BlockBlob", "If-None-Match: *")
	if code := resp.Header.Get("x-ms-error-code"); resp.StatusCode != 409 || code != "BlobAlreadyExists" {
		t.Errorf("%d %s", resp.StatusCode, code)
	}
}

func TestCreateContainer(t *testing.T) {
	for reason, want := range map[fault.Reason]int{"": 409, fault.WorkspaceNotFound: 501, fault.Denied: 403} {
		l := &canned{}
		if reason != "" {
			l.err = fault.New(reason, "")
		}
		if resp := ask(l, "PUT", "/ws?restype=container", ""); resp.StatusCode != want {
			t.Errorf("%q: %d, want %d", reason, resp.StatusCode, want)
		}
	}
}
