package storagewire_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// accountEndpoints are those of the storage account "acct1", with one of its keys.
func accountEndpoints(t *testing.T) (all []endpoint, key string, accounts *account.Accounts) {
	l, accounts := newPlatform(t)
	location := "westeurope"
	path := account.Path{Subscription: subscription, ResourceGroup: "g", Name: "acct1"}
	if _, _, err := accounts.Put(t.Context(), caller, path, account.Spec{Location: &location}); err != nil {
		t.Fatal(err)
	}
	keys, err := accounts.Keys(t.Context(), caller, path)
	if err != nil {
		t.Fatal(err)
	}
	c := storagewire.Config{Account: "acct1", Keys: accounts, Delegations: l, Issuances: tokens{}, Policies: l, Services: accounts, AuthorizationURI: "https://login.localhost/t/oauth2/authorize"}
	b, d := blob.New(l, tokens{}, c), dfs.New(l, tokens{}, c)
	both := http.StripPrefix("/acct1", storagewire.Dispatch(b, d))
	server := httptest.NewTLSServer(api.WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.Host, "acct1.blob."):
			b.ServeHTTP(w, r)
		case strings.HasPrefix(r.Host, "acct1.dfs."):
			d.ServeHTTP(w, r)
		default:
			both.ServeHTTP(w, r)
		}
	})))
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, ServerName: "example.com"}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	options := azcore.ClientOptions{Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{MaxRetries: -1}}
	return []endpoint{
		{"host-style", "https://acct1.blob.test", "https://acct1.dfs.test", options},
		{"path-style", server.URL + "/acct1", server.URL + "/acct1", options},
	}, base64.StdEncoding.EncodeToString(keys[1].Value), accounts
}

// The life of a container and its blobs, by an account's key, as the SDKs lead it.
func TestSharedKey(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			ctx := t.Context()
			name := "c-" + e.name
			credential := must(azblob.NewSharedKeyCredential("acct1", key))(t)
			c := must(azblob.NewClientWithSharedKeyCredential(e.blob, credential, &azblob.ClientOptions{ClientOptions: e.client}))(t)
			must(c.CreateContainer(ctx, name, &azblob.CreateContainerOptions{Metadata: map[string]*string{"team_a": new("x"), "teama": new("y")}}))(t)
			if _, err := c.CreateContainer(ctx, name, nil); !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
				t.Errorf("a second time: %v", err)
			}
			if _, err := c.CreateContainer(ctx, "No--Name", nil); !bloberror.HasCode(err, bloberror.InvalidResourceName) {
				t.Errorf("a bad name: %v", err)
			}
			content := random(200_000)
			for _, path := range []string{"top.txt", "a/b/ä &+%41.bin", "a/c"} {
				must(c.UploadBuffer(ctx, name, path, content, nil))(t)
				r := must(c.DownloadStream(ctx, name, path, nil))(t)
				if got := must(io.ReadAll(r.Body))(t); !bytes.Equal(got, content) {
					t.Errorf("%s: other content", path)
				}
			}
			var names []string
			for p := c.NewListBlobsFlatPager(name, &azblob.ListBlobsFlatOptions{MaxResults: new(int32(2))}); p.More(); {
				page := must(p.NextPage(ctx))(t)
				for _, b := range page.Segment.BlobItems {
					names = append(names, *b.Name)
				}
			}
			if want := []string{"a", "a/b", "a/b/ä &+%41.bin", "a/c", "top.txt"}; !slices.Equal(names, want) {
				t.Errorf("listed %q, want %q", names, want)
			}
			props := must(c.ServiceClient().NewContainerClient(name).GetProperties(ctx, nil))(t)
			if meta(props.Metadata, "team_a") != "x" {
				t.Errorf("metadata %v", props.Metadata)
			}

			lakeKey := must(azdatalake.NewSharedKeyCredential("acct1", key))(t)
			fs := must(filesystem.NewClientWithSharedKeyCredential(e.dfs+"/"+name, lakeKey, &filesystem.ClientOptions{ClientOptions: e.client}))(t)
			must(fs.NewDirectoryClient("dir").Create(ctx, nil))(t)
			must(fs.NewFileClient("dir/f").Create(ctx, nil))(t)
			must(fs.NewFileClient("dir/f").Rename(ctx, "dir/g", nil))(t)
			must(fs.NewDirectoryClient("dir").Rename(ctx, "moved", nil))(t)
			must(fs.NewFileClient("moved/g").GetProperties(ctx, nil))(t)
			must(fs.NewDirectoryClient("moved").Delete(ctx, nil))(t)

			found := false
			for p := c.NewListContainersPager(&azblob.ListContainersOptions{Prefix: new("c-"), Include: azblob.ListContainersInclude{Metadata: true}}); p.More(); {
				for _, one := range must(p.NextPage(ctx))(t).ContainerItems {
					found = found || *one.Name == name
				}
			}
			if !found {
				t.Error("the container is not listed")
			}
			must(c.DeleteContainer(ctx, name, nil))(t)
			if _, err := c.DownloadStream(ctx, name, "top.txt", nil); !bloberror.HasCode(err, bloberror.ContainerNotFound) {
				t.Errorf("after the deletion: %v", err)
			}
			must(c.CreateContainer(ctx, name, nil))(t) // the name is free at once

			wrong := must(azblob.NewSharedKeyCredential("acct1", base64.StdEncoding.EncodeToString(random(64))))(t)
			w := must(azblob.NewClientWithSharedKeyCredential(e.blob, wrong, &azblob.ClientOptions{ClientOptions: e.client}))(t)
			if _, err := w.CreateContainer(ctx, "other", nil); !bloberror.HasCode(err, bloberror.AuthenticationFailed) {
				t.Errorf("another key: %v", err)
			}
		})
	}
}

// Shared access signatures as the SDK signs them: what each permits, and what not.
func TestSignatures(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e := all[0]
	ctx := t.Context()
	signer := must(azblob.NewSharedKeyCredential("acct1", key))(t)
	owner := must(azblob.NewClientWithSharedKeyCredential(e.blob, signer, &azblob.ClientOptions{ClientOptions: e.client}))(t)
	must(owner.CreateContainer(ctx, "mine", nil))(t)
	must(owner.CreateContainer(ctx, "other", nil))(t)
	for _, c := range []string{"mine", "other"} {
		for _, b := range []string{"one", "dir/one"} {
			must(owner.UploadBuffer(ctx, c, b, []byte("x"), nil))(t)
		}
	}
	svc := must(service.NewClient(e.blob, credential("good"), &service.ClientOptions{ClientOptions: e.client}))(t)
	delegation := must(svc.GetUserDelegationCredential(ctx, service.KeyInfo{
		Start:  new(time.Now().Add(-time.Minute).UTC().Format(sas.TimeFormat)),
		Expiry: new(time.Now().Add(time.Hour).UTC().Format(sas.TimeFormat)),
	}, nil))(t)

	soon, past := time.Now().Add(time.Hour).UTC(), time.Now().Add(-time.Minute).UTC()
	values := func(permissions, blob, directory string) sas.BlobSignatureValues {
		return sas.BlobSignatureValues{
			Protocol: sas.ProtocolHTTPS, ExpiryTime: soon, Permissions: permissions, ContainerName: "mine", BlobName: blob, Directory: directory,
		}
	}
	expired, later, elsewhere, typed := values("r", "one", ""), values("r", "one", ""), values("r", "one", ""), values("r", "one", "")
	expired.ExpiryTime, later.StartTime = past, soon.Add(-time.Minute)
	elsewhere.IPRange = sas.IPRange{Start: net.IPv4(10, 0, 0, 1), End: net.IPv4(10, 0, 0, 9)}
	typed.ContentType = "text/x-signed"
	type signed struct {
		name  string
		query func(t *testing.T) string
	}
	both := func(name string, v sas.BlobSignatureValues) []signed {
		return []signed{
			{name, func(t *testing.T) string { q := must(v.SignWithSharedKey(signer))(t); return q.Encode() }},
			{name, func(t *testing.T) string { q := must(v.SignWithUserDelegation(delegation))(t); return q.Encode() }},
		}
	}
	whole := func(permissions, types string) []signed {
		return []signed{{"account " + permissions + " " + types, func(t *testing.T) string {
			q := must(sas.AccountSignatureValues{Protocol: sas.ProtocolHTTPS, ExpiryTime: soon, Permissions: permissions, ResourceTypes: types}.SignWithSharedKey(signer))(t)
			return q.Encode()
		}}}
	}
	for _, c := range []struct {
		by     []signed
		method string
		url    string
		header string
		status int
	}{
		{both("blob r", values("r", "one", "")), "GET", "/mine/one", "", 200},
		{both("blob r", values("r", "one", "")), "GET", "/mine/dir/one", "", 403},
		{both("blob r", values("r", "one", "")), "GET", "/other/one", "", 403},
		{both("blob r", values("r", "one", "")), "DELETE", "/mine/one", "", 403},
		{both("blob r", values("r", "one", "")), "GET", "/mine/one?action=getstatus", "", 200},
		{both("blob l", values("l", "", "")), "GET", "/mine/one?resource=filesystem", "", 403},
		{both("blob e", values("e", "", "")), "GET", "/mine/one?action=getstatus", "", 403},
		{both("container l", values("l", "", "")), "GET", "/mine?restype=container&comp=list", "", 200},
		{both("container l", values("l", "", "")), "GET", "/other?restype=container&comp=list", "", 403},
		{both("container r", values("r", "", "")), "GET", "/mine?restype=container&comp=list", "", 403},
		{both("container rd", values("rd", "", "")), "DELETE", "/mine?restype=container", "", 403},
		{both("container rw", values("rw", "", "")), "GET", "/mine/dir/one", "", 200},
		{both("container w", values("w", "", "")), "PUT", "/mine/copied", "x-ms-copy-source: " + e.blob + "/other/one", 403},
		{both("directory r", values("r", "", "dir")), "GET", "/mine/dir/one", "", 200},
		{both("directory r", values("r", "", "dir")), "GET", "/mine/one", "", 403},
		{both("directory l", values("l", "", "dir")), "GET", "/mine?restype=container&comp=list&prefix=dir/", "", 200},
		{both("directory l", values("l", "", "dir")), "GET", "/mine?restype=container&comp=list&prefix=di", "", 403},
		{both("create", values("c", "one", "")), "PUT", "/mine/one", "x-ms-blob-type: BlockBlob", 409},
		{both("create", values("c", "new", "")), "PUT", "/mine/new", "x-ms-blob-type: BlockBlob", 409}, // the second of the two
		{both("expired", expired), "GET", "/mine/one", "", 403},
		{both("not yet", later), "GET", "/mine/one", "", 403},
		{both("elsewhere", elsewhere), "GET", "/mine/one", "", 403},
		{both("typed", typed), "GET", "/mine/one", "", 200},
		{whole("rl", "sco"), "GET", "/?comp=list", "", 200},
		{whole("rl", "o"), "GET", "/?comp=list", "", 403},
		{whole("r", "o"), "GET", "/other/one", "", 200},
		{whole("r", "c"), "GET", "/other/one", "", 403},
		{whole("w", "o"), "GET", "/other/one", "", 403},
		{whole("c", "c"), "PUT", "/made?restype=container", "", 201},
		{whole("l", "c"), "PUT", "/made2?restype=container", "", 403},
	} {
		for i, s := range c.by {
			joint := "?"
			if strings.Contains(c.url, "?") {
				joint = "&"
			}
			req := must(http.NewRequestWithContext(ctx, c.method, e.blob+c.url+joint+s.query(t), http.NoBody))(t)
			if name, v, ok := strings.Cut(c.header, ": "); ok {
				req.Header.Set(name, v)
			}
			res := must(e.client.Transport.Do(req))(t)
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			status := c.status
			if strings.HasSuffix(c.url, "/new") && i == 0 {
				status = 201
			}
			if res.StatusCode != status {
				t.Errorf("%s, way %d: %s %s: %d, want %d: %s", s.name, i, c.method, c.url, res.StatusCode, status, body)
			}
			if s.name == "typed" && res.Header.Get("Content-Type") != "text/x-signed" {
				t.Errorf("Content-Type %q", res.Header.Get("Content-Type"))
			}
		}
	}
	q := must(values("r", "one", "").SignWithSharedKey(signer))(t)
	tampered := strings.Replace(q.Encode(), "sp=r", "sp=rw", 1)
	res := must(e.client.Transport.Do(must(http.NewRequestWithContext(ctx, "GET", e.blob+"/mine/one?"+tampered, http.NoBody))(t)))(t)
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("a changed signature: %d", res.StatusCode)
	}
}

// FuzzSignature feeds queries to the parser of signatures: nothing that is not signed
// speaks for anybody.
func FuzzSignature(f *testing.F) {
	for _, s := range []string{
		"sv=2026-04-06&sr=b&sp=r&se=2099-01-01&sig=" + strings.Repeat("A", 43) + "%3D", "sv=2018-11-09&sr=d&sdd=1&sp=rwd&se=2099-01-01T00:00Z&sig=AA",
		"sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2099-01-01&spr=https&sip=1.2.3.4-1.2.3.9&sig=" + strings.Repeat("A", 43) + "%3D",
		"sv=2026-04-06&sr=c&skoid=o&sktid=t&skt=2020-01-01&ske=2099-01-01&sks=b&skv=2026-04-06&sp=l&se=2099-01-01&sig=" + strings.Repeat("A", 43) + "%3D",
	} {
		f.Add("/c/a/b", s)
	}
	c := storagewire.Config{Account: "acct1", Keys: noKeys{}, Delegations: noKeys{}, Issuances: tokens{}}
	f.Fuzz(func(t *testing.T, path, query string) {
		r := httptest.NewRequest("GET", "https://acct1.blob.test/", nil)
		r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/"+path, "", query
		q, err := storagewire.ParseQuery(r)
		if err != nil {
			return
		}
		if who, err := c.Caller(r, q, tokens{}); err == nil {
			t.Errorf("%q speaks for %v", query, who)
		}
	})
}

// noKeys holds for nothing that is signed.
type noKeys struct{}

func (noKeys) Verify(context.Context, string, string, []byte) (identity.Caller, error) {
	return identity.Caller{}, fault.New(fault.Unauthenticated, "")
}

func (noKeys) DelegationValue(lake.DelegationKey) ([]byte, error) { return make([]byte, 32), nil }
