package dfs_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/storagewire/wiretest"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// A canned lake gives the same answers to everybody, and keeps what it was asked.
// What a test does not can, must not be asked.
type canned struct {
	dfs.Lake
	err        error
	properties lake.Properties
	listing    lake.Listing
	containers []lake.ContainerProperties

	path, from lake.Path
	put        lake.PutOptions
	kind       lake.Kind
	body       string
	position   int64
	flush      *lake.FlushOptions
	list       lake.ListOptions
	rename     lake.RenameOptions
	recursive  bool
	metadata   map[string]string
	headers    *lake.ContentHeaders
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

func (c *canned) Rights(context.Context, identity.Caller, lake.Path) (lake.Rights, error) {
	return lake.Rights{Read: true}, c.err
}

func (c *canned) Stat(_ context.Context, _ identity.Caller, p lake.Path, _ lake.Conditions) (lake.Properties, error) {
	c.path = p
	return c.properties, c.err
}

func (c *canned) Open(context.Context, identity.Caller, lake.Path, lake.Conditions, lake.Range) (*lake.Content, error) {
	return nil, c.err
}

func (c *canned) Create(_ context.Context, _ identity.Caller, p lake.Path, k lake.Kind, o lake.PutOptions) (lake.Properties, error) {
	c.path, c.kind, c.put = p, k, o
	return c.properties, c.err
}

func (c *canned) Append(_ context.Context, _ identity.Caller, _ lake.Path, position int64, body io.Reader, _ int64, _ lake.StageOptions) (uint64, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	c.position, c.body = position, string(b)
	return 0, c.err
}

func (c *canned) Flush(_ context.Context, _ identity.Caller, _ lake.Path, position int64, o lake.FlushOptions) (lake.Properties, error) {
	c.position, c.flush = position, &o
	return c.properties, c.err
}

func (c *canned) List(_ context.Context, _ identity.Caller, p lake.Path, o lake.ListOptions) (lake.Listing, error) {
	c.path, c.list = p, o
	return c.listing, c.err
}

func (c *canned) Delete(_ context.Context, _ identity.Caller, _ lake.Path, recursive bool, _ lake.Conditions) error {
	c.recursive = recursive
	return c.err
}

func (c *canned) Rename(_ context.Context, _ identity.Caller, from, to lake.Path, o lake.RenameOptions) (lake.Properties, error) {
	c.from, c.path, c.rename = from, to, o
	return c.properties, c.err
}

func (c *canned) SetMetadata(_ context.Context, _ identity.Caller, _ lake.Path, m map[string]string, _ lake.Conditions) (lake.Properties, error) {
	c.metadata = m
	return c.properties, c.err
}

func (c *canned) SetHeaders(_ context.Context, _ identity.Caller, _ lake.Path, h lake.ContentHeaders, _ lake.Conditions) (lake.Properties, error) {
	c.headers = &h
	return c.properties, c.err
}

// ask sends one request with a good token; headers come as "Name: value".
func ask(l dfs.Lake, method, target, body string, headers ...string) *http.Response {
	return wiretest.Ask(dfs.New(l, wiretest.Tokens{}, wiretest.Config), method, target, body, headers...)
}

const path = "/ws/i.Lakehouse/Files/a"

// Every reason has its row, and looks as a client of this dialect expects: in JSON,
// and in the headers alone for HEAD.
func TestFaults(t *testing.T) {
	wiretest.Faults(t, dfs.Faults, path, func(err error) http.Handler {
		return dfs.New(&canned{err: err}, wiretest.Tokens{}, wiretest.Config)
	}, func(body string) (string, string) {
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Error(err)
		}
		return e.Error.Code, e.Error.Message
	})
	for reason, code := range map[fault.Reason]string{
		fault.KEKRefused:        "KeyVaultEncryptionKeyNotFound",
		fault.KEKUnreachable:    "ServerBusy",
		fault.PathNotFound:      "PathNotFound",
		fault.PathExists:        "PathAlreadyExists",
		fault.WorkspaceNotFound: "FilesystemNotFound",
		fault.DirectoryNotEmpty: "DirectoryNotEmpty",
	} {
		if got := dfs.Faults[reason].Code; got != code {
			t.Errorf("%s is %s, want %s", reason, got, code)
		}
	}
}

// forbidden panics when it is asked.
type forbidden struct{ dfs.Lake }

// What is refused before the lake is asked.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		code                       string
	}{
		{"no token", "GET", path, "", []string{"Authorization: "}, 401, "NoAuthenticationInformation"},
		{"bad token", "GET", path, "", []string{"Authorization: Bearer x"}, 401, "InvalidAuthenticationInfo"},
		{"account key", "GET", path, "", []string{"Authorization: SharedKey a:b"}, 403, "AuthenticationFailed"},
		{"set access control", "PATCH", path + "?action=setAccessControl", "", nil, 400, "UnsupportedQueryParameter"},
		{"set it below", "PATCH", path + "?action=setAccessControlRecursive&mode=set", "", nil, 400, "UnsupportedQueryParameter"},
		{"check access", "HEAD", path + "?action=checkAccess", "", nil, 501, "NotImplemented"},
		{"lease", "POST", path, "", []string{"x-ms-lease-action: acquire"}, 400, "MissingRequiredHeader"},
		{"expiry", "PUT", path + "?comp=expiry", "", nil, 501, "NotImplemented"},
		{"filesystem's end", "DELETE", "/ws?resource=filesystem", "", nil, 501, "NotImplemented"},
		{"filesystem's properties", "PATCH", "/ws?resource=filesystem", "", nil, 501, "NotImplemented"},
		{"root's end", "DELETE", "/ws", "", nil, 501, "NotImplemented"},
		{"odd method", "TRACE", path, "", nil, 405, "UnsupportedHttpVerb"},
		{"odd resource", "PUT", path + "?resource=symlink", "", nil, 400, "InvalidQueryParameterValue"},
		{"create with a body", "PUT", path + "?resource=file", "x", nil, 400, "ContentLengthMustBeZero"},
		{"flush with a body", "PATCH", path + "?action=flush&position=1", "x", nil, 400, "ContentLengthMustBeZero"},
		{"append to nowhere", "PATCH", path + "?action=append", "x", nil, 400, "MissingRequiredQueryParameter"},
		{"append before the start", "PATCH", path + "?action=append&position=-1", "x", nil, 400, "OutOfRangeQueryParameterValue"},
		{"append without length", "PATCH", path + "?action=append&position=0", "x", []string{"Transfer-Encoding: chunked"}, 411, "MissingContentLengthHeader"},
		{"structured body", "PATCH", path + "?action=append&position=0", "x", []string{"x-ms-structured-body: XSM/2.0"}, 400, "UnsupportedHeader"},
		{"rename from a filesystem", "PUT", path, "", []string{"x-ms-rename-source: /ws"}, 400, "InvalidSourceUri"},
		{"rename from nonsense", "PUT", path, "", []string{"x-ms-rename-source: /ws/%zz"}, 400, "InvalidSourceUri"},
		{"properties", "PUT", path + "?resource=file", "", []string{"x-ms-properties: a=?"}, 400, "InvalidPropertyName"},
		{"two directories", "GET", "/ws/i.Lakehouse?resource=filesystem&directory=Files", "", nil, 400, "InvalidQueryParameterValue"},
		{"dots", "GET", "/ws?resource=filesystem&directory=..", "", nil, 400, "InvalidResourceName"},
		{"recursive?", "DELETE", path + "?recursive=1", "", nil, 400, "InvalidQueryParameterValue"},
		{"account", "HEAD", "/", "", nil, 501, "NotImplemented"},
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

func TestCreate(t *testing.T) {
	l := &canned{properties: lake.Properties{ETag: `"0x1"`}}
	resp := ask(l, "PUT", path+"/?resource=directory", "", "If-None-Match: *", "x-ms-properties: k=dg==", "x-ms-content-type: text/x",
		"x-ms-permissions: rwx", "x-ms-owner: me", "x-ms-encryption-key: AAAA", "x-ms-access-tier: Hot")
	want := lake.PutOptions{
		Headers: lake.ContentHeaders{Type: "text/x"}, Metadata: map[string]string{"k": "v"}, Conditions: lake.Conditions{IfNoneMatch: "*"},
	}
	if diff := cmp.Diff(want, l.put); resp.StatusCode != 201 || l.kind != lake.Folder || diff != "" {
		t.Errorf("%d, kind %d\n%s", resp.StatusCode, l.kind, diff)
	}
	if diff := cmp.Diff([]string{"i.Lakehouse", "Files", "a"}, l.path.Segments); diff != "" {
		t.Error(diff)
	}
	if got := resp.Header.Get("x-ms-rejected-headers"); got != "x-ms-owner,x-ms-permissions,x-ms-access-tier,x-ms-encryption-key" {
		t.Errorf("rejected: %s", got)
	}
	l.err = fault.New(fault.PreconditionFailed, "")
	resp = ask(l, "PUT", path+"?resource=file", "", "If-None-Match: *")
	if resp.StatusCode != 409 || resp.Header.Get("x-ms-error-code") != "PathAlreadyExists" || l.kind != lake.File {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestUpdate(t *testing.T) {
	l := &canned{properties: lake.Properties{ETag: `"0x1"`, Headers: lake.ContentHeaders{Type: "text/x", Language: "nl", MD5: make([]byte, 16)}}}
	resp := ask(l, "PUT", path+"?action=append&position=3", "abc", "X-HTTP-Method-Override: PATCH")
	if resp.StatusCode != 202 || l.position != 3 || l.body != "abc" || l.flush != nil || resp.Header.Get("x-ms-content-crc64") == "" {
		t.Errorf("append: %d, %+v", resp.StatusCode, l)
	}
	resp = ask(l, "PATCH", path+"?action=append&position=3&flush=true", "abc")
	if resp.StatusCode != 202 || l.position != 6 || l.flush == nil || resp.Header.Get("ETag") != `"0x1"` {
		t.Errorf("append with flush: %d, %+v", resp.StatusCode, l)
	}
	resp = ask(l, "PATCH", path+"?action=flush&position=9&close=true&retainUncommittedData=true", "", "If-Match: *")
	if diff := cmp.Diff(&lake.FlushOptions{KeepUncommitted: true, Conditions: lake.Conditions{IfMatch: "*"}}, l.flush); resp.StatusCode != 200 || l.position != 9 || diff != "" {
		t.Errorf("flush: %d\n%s", resp.StatusCode, diff)
	}
	resp = ask(l, "PATCH", path+"?action=flush&position=9", "", "x-ms-content-language: en")
	if diff := cmp.Diff(&lake.ContentHeaders{Type: "text/x", Language: "en"}, l.flush.Headers); resp.StatusCode != 200 || diff != "" {
		t.Errorf("flush with a header: %d\n%s", resp.StatusCode, diff)
	}
	resp = ask(l, "PATCH", path+"?action=setProperties", "", "x-ms-properties: k=dg==,l=")
	if diff := cmp.Diff(map[string]string{"k": "v", "l": ""}, l.metadata); resp.StatusCode != 200 || l.headers != nil || diff != "" {
		t.Errorf("metadata: %d\n%s", resp.StatusCode, diff)
	}
	l.metadata = nil
	resp = ask(l, "PATCH", path+"?action=setProperties", "", "x-ms-content-type: text/y")
	if diff := cmp.Diff(&lake.ContentHeaders{Type: "text/y", Language: "nl", MD5: make([]byte, 16)}, l.headers); resp.StatusCode != 200 || l.metadata != nil || diff != "" {
		t.Errorf("headers: %d\n%s", resp.StatusCode, diff)
	}
}

func TestRename(t *testing.T) {
	l := &canned{properties: lake.Properties{ETag: `"0x1"`}}
	resp := ask(l, "PUT", "/ws/i.Lakehouse/Files/b?mode=legacy", "", "x-ms-rename-source: /onelake/ws/i.Lakehouse/Files/a%20b?sig=x",
		"If-None-Match: *", `x-ms-source-if-match: "1"`, "x-ms-source-lease-id: ")
	want := lake.RenameOptions{Conditions: lake.Conditions{IfNoneMatch: "*"}, SourceConditions: lake.Conditions{IfMatch: `"1"`}}
	if diff := cmp.Diff(want, l.rename); resp.StatusCode != 201 || diff != "" {
		t.Errorf("%d\n%s", resp.StatusCode, diff)
	}
	if diff := cmp.Diff(lake.Path{Container: "ws", Segments: []string{"i.Lakehouse", "Files", "a b"}}, l.from); diff != "" {
		t.Error(diff)
	}
}

func TestDelete(t *testing.T) {
	l := &canned{}
	if resp := ask(l, "DELETE", path+"?recursive=true", ""); resp.StatusCode != 200 || !l.recursive || resp.Header.Get("x-ms-continuation") != "" {
		t.Errorf("%d, %+v", resp.StatusCode, l)
	}
	if resp := ask(l, "DELETE", path, ""); resp.StatusCode != 200 || l.recursive {
		t.Errorf("%d, %+v", resp.StatusCode, l)
	}
}

func TestHead(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	l := &canned{properties: lake.Properties{Kind: lake.Folder, ETag: `"0x1"`, Modified: at, Metadata: map[string]string{"k": "v"}}}
	for target, want := range map[string]map[string]string{
		path:                              {"x-ms-properties": "hdi_isfolder=dHJ1ZQ==,k=dg==", "x-ms-resource-type": "directory", "x-ms-permissions": "---------", "x-ms-acl": ""},
		path + "?action=getStatus":        {"x-ms-properties": "", "x-ms-owner": "$superuser", "ETag": `"0x1"`},
		path + "?action=getAccessControl": {"x-ms-acl": "user::r-x,group::---,other::---", "x-ms-group": "$superuser"},
		"/ws?resource=filesystem":         {"x-ms-namespace-enabled": "true", "ETag": `"0xC"`},
		"/ws//?action=getAccessControl":   {"x-ms-namespace-enabled": "true", "x-ms-owner": "$superuser"},
	} {
		resp := ask(l, "HEAD", target, "")
		for name, v := range want {
			if got := resp.Header.Get(name); resp.StatusCode != 200 || got != v {
				t.Errorf("%s: %d, %s is %q, want %q", target, resp.StatusCode, name, got, v)
			}
		}
	}
}

func TestList(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	l := &canned{listing: lake.Listing{
		Entries: []lake.Properties{
			{Name: "i.Lakehouse/Files/d", Kind: lake.Folder, ETag: `"0x1"`, Created: at, Modified: at},
			{Name: "i.Lakehouse/Files/é\"", Kind: lake.File, Size: 7, ETag: `"0x2"`, Modified: at},
		},
		Continuation: "next",
	}}
	resp := ask(l, "GET", "/ws?resource=filesystem&directory=i.Lakehouse/Files%2Fx%20y/&recursive=true&continuation=c&maxResults=7", "")
	const want = `{"paths":[{"name":"i.Lakehouse/Files/d","isDirectory":"true","contentLength":"0","creationTime":"134398152000000000",` +
		`"lastModified":"Sun, 22 Nov 2026 10:00:00 GMT","etag":"0x1","owner":"$superuser","group":"$superuser","permissions":"---------"},` +
		`{"name":"i.Lakehouse/Files/é\"","contentLength":"7",` +
		`"lastModified":"Sun, 22 Nov 2026 10:00:00 GMT","etag":"0x2","owner":"$superuser","group":"$superuser","permissions":"---------"}]}`
	if diff := cmp.Diff(want, wiretest.Text(t, resp)); resp.StatusCode != 200 || diff != "" || resp.Header.Get("x-ms-continuation") != "next" {
		t.Errorf("%d %v\n%s", resp.StatusCode, resp.Header, diff)
	}
	if diff := cmp.Diff(lake.ListOptions{Recursive: true, Max: 7, Continuation: "c"}, l.list); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(lake.Path{Container: "ws", Segments: []string{"i.Lakehouse", "Files", "x y"}}, l.path); diff != "" {
		t.Error(diff)
	}
	ask(l, "GET", "/ws/i.Lakehouse/Files/?recursive=false&resource=filesystem", "") // as the Fabric CLI writes it
	if diff := cmp.Diff([]string{"i.Lakehouse", "Files"}, l.path.Segments); diff != "" {
		t.Error(diff)
	}

	l.containers = []lake.ContainerProperties{
		{Container: lake.Container{Name: "a b", Modified: at}, ETag: `"0xA"`}, {Container: lake.Container{Name: "c d", Modified: at}, ETag: `"0xB"`},
	}
	resp = ask(l, "GET", "/?resource=account&maxResults=1", "")
	const one = `{"filesystems":[{"name":"a b","lastModified":"Sun, 22 Nov 2026 10:00:00 GMT","etag":"0xA"}]}`
	if got := wiretest.Text(t, resp); got != one || resp.Header.Get("x-ms-continuation") != "c%20d" {
		t.Errorf("%s %v", got, resp.Header)
	}
	resp = ask(l, "GET", "/?resource=account&continuation=c%2520d", "")
	const rest = `{"filesystems":[{"name":"c d","lastModified":"Sun, 22 Nov 2026 10:00:00 GMT","etag":"0xB"}]}`
	if got := wiretest.Text(t, resp); got != rest || resp.Header.Get("x-ms-continuation") != "" {
		t.Errorf("%s %v", got, resp.Header)
	}
}
