package storagewire_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	azblobblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/datalakeerror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/dfs"
	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// tokens accepts one token, for the audiences that the SDKs ask for.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string, audiences ...string) (identity.Caller, error) {
	if token != "good" || !slices.Contains(audiences, "https://storage.azure.com") {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "")
	}
	return caller, nil
}

// gone makes the tests' principal one that is disabled.
var gone atomic.Bool

func (tokens) Issuances(context.Context, identity.TenantID, identity.PrincipalID) ([]identity.Issuance, error) {
	if gone.Load() {
		return nil, nil
	}
	return []identity.Issuance{{Issuer: "another"}, caller.Issuance}, nil
}

type credential string

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if !slices.Equal(o.Scopes, []string{"https://storage.azure.com/.default"}) {
		return azcore.AccessToken{}, errors.New("another scope: " + strings.Join(o.Scopes, " "))
	}
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// An endpoint serves both dialects as the product's listener does: by host, and on
// a bare host by path.
type endpoint struct {
	name   string
	blob   string // URL of the account
	dfs    string
	client azcore.ClientOptions
}

func endpoints(t *testing.T) []endpoint {
	config := storagewire.Config{Account: "onelake", AuthorizationURI: "https://login.localhost/t/oauth2/authorize"}
	l := newLake(t)
	b, d := blob.New(l, tokens{}, config), dfs.New(l, tokens{}, config)
	both := http.StripPrefix("/onelake", storagewire.Dispatch(b, d))
	server := httptest.NewTLSServer(api.WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.Host, "onelake.blob."):
			b.ServeHTTP(w, r)
		case strings.HasPrefix(r.Host, "onelake.dfs."):
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
	options := azcore.ClientOptions{
		Transport: &http.Client{Transport: transport},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
	return []endpoint{
		{"host-style", "https://onelake.blob.test", "https://onelake.dfs.test", options},
		{"path-style", server.URL + "/onelake", server.URL + "/onelake", options},
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{byte(n)})
	rnd.Read(b)
	return b
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// meta finds metadata by a name whose case Go's HTTP client has changed.
func meta(m map[string]*string, name string) string {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return *v
		}
	}
	return ""
}

const files = "L.Lakehouse/Files/"

func TestAzblob(t *testing.T) {
	for _, e := range endpoints(t) {
		t.Run(e.name, func(t *testing.T) {
			ctx := t.Context()
			dir := files + e.name + "/"
			c := must(azblob.NewClient(e.blob, credential("good"), &azblob.ClientOptions{ClientOptions: e.client}))(t)

			// Small, whole, with everything that goes along.
			name, content := dir+"a b/ä+&%41.txt", []byte("hello, lake")
			sum := md5.Sum(content)
			must(c.UploadBuffer(ctx, "ws", name, content, &azblob.UploadBufferOptions{
				HTTPHeaders: &azblobblob.HTTPHeaders{BlobContentType: to.Ptr("text/plain"), BlobContentMD5: sum[:]},
				Metadata:    map[string]*string{"owner": to.Ptr("x y")},
			}))(t)
			got := must(c.DownloadStream(ctx, "ws", name, nil))(t)
			if b := must(io.ReadAll(got.Body))(t); !bytes.Equal(b, content) || *got.ContentType != "text/plain" ||
				!bytes.Equal(got.ContentMD5, sum[:]) || meta(got.Metadata, "owner") != "x y" || *got.BlobType != "BlockBlob" || !*got.IsServerEncrypted {
				t.Fatalf("read back %q with %+v", b, got)
			}

			// Streamed in blocks, and read in pieces.
			big := random(5<<20 + 17)
			must(c.UploadStream(ctx, "ws", dir+"big", bytes.NewReader(big), &azblob.UploadStreamOptions{BlockSize: 1 << 20, Concurrency: 3}))(t)
			buf := make([]byte, len(big))
			n := must(c.DownloadBuffer(ctx, "ws", dir+"big", buf, &azblob.DownloadBufferOptions{BlockSize: 1 << 20, Concurrency: 3}))(t)
			if n != int64(len(big)) || !bytes.Equal(buf, big) {
				t.Fatalf("read back %d bytes, and they differ", n)
			}
			part := must(c.DownloadStream(ctx, "ws", dir+"big", &azblob.DownloadStreamOptions{
				Range: azblobblob.HTTPRange{Offset: 1<<20 - 3, Count: 7}, RangeGetContentMD5: to.Ptr(true),
			}))(t)
			want := big[1<<20-3 : 1<<20+4]
			if b := must(io.ReadAll(part.Body))(t); !bytes.Equal(b, want) || md5.Sum(want) != [16]byte(part.ContentMD5) {
				t.Fatalf("ranged read gave %x, want %x", b, want)
			}

			bb := c.ServiceClient().NewContainerClient("ws").NewBlockBlobClient(dir + "blocks")
			id := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
			for _, s := range []string{"one", "two", "six"} {
				must(bb.StageBlock(ctx, id(s), streaming.NopCloser(strings.NewReader(s)), &blockblob.StageBlockOptions{
					TransactionalValidation: azblobblob.TransferValidationTypeComputeCRC64(),
				}))(t)
			}
			must(bb.CommitBlockList(ctx, []string{id("two"), id("one")}, nil))(t)
			list := must(bb.GetBlockList(ctx, blockblob.BlockListTypeCommitted, nil))(t)
			if len(list.CommittedBlocks) != 2 || *list.CommittedBlocks[0].Name != id("two") || *list.CommittedBlocks[1].Size != 3 {
				t.Fatalf("block list: %+v", list.CommittedBlocks)
			}
			_, err := bb.StageBlock(ctx, id("bad"), streaming.NopCloser(strings.NewReader("bad")), &blockblob.StageBlockOptions{
				TransactionalValidation: azblobblob.TransferValidationTypeCRC64(1),
			})
			wantCode(t, err, 400, "Crc64Mismatch")

			// Conditions.
			_, err = c.UploadBuffer(ctx, "ws", name, content, &azblob.UploadBufferOptions{AccessConditions: &azblobblob.AccessConditions{
				ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
			}})
			wantCode(t, err, 409, string(bloberror.BlobAlreadyExists))
			_, err = bb.SetMetadata(ctx, nil, &azblobblob.SetMetadataOptions{AccessConditions: &azblobblob.AccessConditions{
				ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(`"0x0"`))},
			}})
			wantCode(t, err, 412, string(bloberror.ConditionNotMet))

			// Properties and metadata.
			must(bb.SetMetadata(ctx, map[string]*string{"k": to.Ptr("v")}, nil))(t)
			must(bb.SetHTTPHeaders(ctx, azblobblob.HTTPHeaders{BlobContentType: to.Ptr("application/x")}, nil))(t)
			props := must(bb.GetProperties(ctx, nil))(t)
			if *props.ContentType != "application/x" || meta(props.Metadata, "k") != "v" || *props.ContentLength != 6 {
				t.Fatalf("properties: %+v", props)
			}
			folder := must(c.ServiceClient().NewContainerClient("ws").NewBlobClient(strings.TrimSuffix(dir, "/")).GetProperties(ctx, nil))(t)
			if meta(folder.Metadata, "hdi_isfolder") != "true" || *folder.ContentLength != 0 {
				t.Fatalf("a folder's properties: %+v", folder.Metadata)
			}

			// Listings.
			cc := c.ServiceClient().NewContainerClient("ws")
			var names, prefixes []string
			for p := cc.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &dir, MaxResults: to.Ptr(int32(1))}); p.More(); {
				page := must(p.NextPage(ctx))(t)
				for _, b := range page.Segment.BlobItems {
					names = append(names, *b.Name)
				}
				for _, b := range page.Segment.BlobPrefixes {
					prefixes = append(prefixes, *b.Name)
				}
			}
			if !slices.Equal(names, []string{dir + "big", dir + "blocks"}) || !slices.Equal(prefixes, []string{dir + "a b/"}) {
				t.Fatalf("one level: %q and %q", names, prefixes)
			}
			names = nil
			for p := c.NewListBlobsFlatPager("ws", &azblob.ListBlobsFlatOptions{Prefix: &dir, Include: container.ListBlobsInclude{Metadata: true}}); p.More(); {
				for _, b := range must(p.NextPage(ctx))(t).Segment.BlobItems {
					if *b.Properties.ContentLength > 0 {
						names = append(names, *b.Name)
					} else if meta(b.Metadata, "hdi_isfolder") != "true" {
						t.Errorf("%s is listed empty, and not as a folder", *b.Name)
					}
				}
			}
			if !slices.Equal(names, []string{name, dir + "big", dir + "blocks"}) {
				t.Fatalf("flat: %q", names)
			}
			containers := must(c.NewListContainersPager(nil).NextPage(ctx))(t)
			if len(containers.ContainerItems) != 1 || *containers.ContainerItems[0].Name != "ws" {
				t.Fatalf("containers: %+v", containers.ContainerItems)
			}
			must(cc.GetProperties(ctx, nil))(t)
			_, err = c.CreateContainer(ctx, "ws", nil)
			wantCode(t, err, 409, string(bloberror.ContainerAlreadyExists))
			_, err = c.CreateContainer(ctx, "other", nil)
			wantCode(t, err, 501, "NotImplemented")

			// The end.
			must(c.DeleteBlob(ctx, "ws", name, nil))(t)
			_, err = c.DownloadStream(ctx, "ws", name, nil)
			wantCode(t, err, 404, string(bloberror.BlobNotFound))
			_, err = cc.NewBlobClient(name).GetProperties(ctx, nil)
			wantCode(t, err, 404, string(bloberror.BlobNotFound))
			_, err = c.DeleteBlob(ctx, "ws", strings.TrimSuffix(dir, "/"), nil)
			wantCode(t, err, 409, "DirectoryIsNotEmpty")
			_, err = cc.NewPageBlobClient(dir+"x").Create(ctx, 512, nil)
			wantCode(t, err, 501, "NotImplemented")
		})
	}
}

func TestAzdatalake(t *testing.T) {
	for _, e := range endpoints(t) {
		t.Run(e.name, func(t *testing.T) {
			ctx := t.Context()
			dir := files + e.name
			fs := must(filesystem.NewClient(e.dfs+"/ws", credential("good"), &filesystem.ClientOptions{ClientOptions: e.client}))(t)
			must(fs.GetProperties(ctx, nil))(t)

			d := fs.NewDirectoryClient(dir)
			must(d.Create(ctx, nil))(t)
			_, err := d.Create(ctx, &directory.CreateOptions{AccessConditions: &directory.AccessConditions{
				ModifiedAccessConditions: &directory.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
			}})
			wantCode(t, err, 409, string(datalakeerror.PathAlreadyExists))

			f := must(d.NewFileClient("ä b+.bin"))(t)
			created := must(f.Create(ctx, &file.CreateOptions{HTTPHeaders: &file.HTTPHeaders{ContentType: to.Ptr("text/x")}}))(t)
			if created.ETag == nil || created.LastModified == nil {
				t.Fatalf("created: %+v", created)
			}
			big := random(3<<20 + 5)
			if err := f.UploadBuffer(ctx, big, &file.UploadBufferOptions{ChunkSize: 1 << 20, Concurrency: 3}); err != nil {
				t.Fatal(err)
			}
			read := func(f *file.Client) []byte {
				t.Helper()
				got := must(f.DownloadStream(ctx, nil))(t)
				return must(io.ReadAll(got.Body))(t)
			}
			if !bytes.Equal(read(f), big) {
				t.Fatal("what was appended reads back differently")
			}
			part := must(f.DownloadStream(ctx, &file.DownloadStreamOptions{Range: &file.HTTPRange{Offset: 5, Count: 9}}))(t)
			if b := must(io.ReadAll(part.Body))(t); !bytes.Equal(b, big[5:14]) {
				t.Fatalf("ranged read gave %x", b)
			}
			_, err = f.FlushData(ctx, 7, nil)
			wantCode(t, err, 400, "InvalidFlushPosition")

			must(f.SetMetadata(ctx, map[string]*string{"a": to.Ptr("b")}, nil))(t)
			must(f.SetHTTPHeaders(ctx, file.HTTPHeaders{ContentType: to.Ptr("text/y")}, nil))(t)
			props := must(f.GetProperties(ctx, nil))(t)
			if *props.ContentType != "text/y" || meta(props.Metadata, "a") != "b" || *props.Owner != "$superuser" ||
				*props.Permissions != "---------" || *props.ResourceType != "file" {
				t.Fatalf("properties: %+v", props)
			}
			acl := must(f.GetAccessControl(ctx, nil))(t)
			if *acl.Group != "$superuser" {
				t.Fatalf("access control: %+v", acl)
			}
			_, err = f.SetAccessControl(ctx, &file.SetAccessControlOptions{Permissions: to.Ptr("rwx------")})
			wantCode(t, err, 400, "UnsupportedQueryParameter")

			// Renames: a file, then its folder.
			must(f.Rename(ctx, dir+"/sub dir", nil))(t)
			_, err = f.GetProperties(ctx, nil)
			wantCode(t, err, 404, string(datalakeerror.PathNotFound), "BlobNotFound")
			_, err = f.Rename(ctx, dir+"/again", nil)
			wantCode(t, err, 404, "SourcePathNotFound")
			must(d.Rename(ctx, dir+"2", nil))(t)
			moved := fs.NewFileClient(dir + "2/sub dir")
			if !bytes.Equal(read(moved), big) {
				t.Fatal("a renamed file reads back differently")
			}

			var names []string
			for p := fs.NewListPathsPager(true, &filesystem.ListPathsOptions{Prefix: to.Ptr(dir + "2"), MaxResults: to.Ptr(int32(1))}); p.More(); {
				for _, e := range must(p.NextPage(ctx))(t).Paths {
					names = append(names, *e.Name)
					if *e.ContentLength != int64(len(big)) || e.IsDirectory != nil && *e.IsDirectory || *e.Owner != "$superuser" {
						t.Errorf("listed: %+v", e)
					}
				}
			}
			if !slices.Equal(names, []string{dir + "2/sub dir"}) {
				t.Fatalf("listed: %q", names)
			}

			d2 := fs.NewDirectoryClient(dir + "2")
			_, err = fs.NewFileClient(dir+"2").Delete(ctx, nil)
			wantCode(t, err, 409, "DirectoryNotEmpty")
			must(d2.Delete(ctx, nil))(t)
			_, err = moved.GetProperties(ctx, nil)
			wantCode(t, err, 404, string(datalakeerror.PathNotFound), "BlobNotFound")
			_, err = fs.Create(ctx, nil)
			wantCode(t, err, 409, "FileSystemAlreadyExists") // the SDK asks Blob, and renames its code
		})
	}
}

// A token that does not hold is refused in both dialects, with a challenge that the
// clients understand.
func TestClientsUnauthenticated(t *testing.T) {
	for _, e := range endpoints(t) {
		c := must(azblob.NewClient(e.blob, credential("bad"), &azblob.ClientOptions{ClientOptions: e.client}))(t)
		_, err := c.DownloadStream(t.Context(), "ws", files+"x", nil)
		wantCode(t, err, 401, "InvalidAuthenticationInfo")
		f := must(file.NewClient(e.dfs+"/ws/"+files+"x", credential("bad"), &file.ClientOptions{ClientOptions: e.client}))(t)
		_, err = f.Create(t.Context(), nil)
		wantCode(t, err, 401, "InvalidAuthenticationInfo")
	}
}

func wantCode(t *testing.T, err error, status int, codes ...string) {
	t.Helper()
	var re *azcore.ResponseError
	if !errors.As(err, &re) {
		t.Errorf("got %v, want %d %s", err, status, codes)
		return
	}
	if re.StatusCode != status || !slices.Contains(codes, re.ErrorCode) {
		t.Errorf("got %d %s, want %d %s", re.StatusCode, re.ErrorCode, status, codes)
	}
}

// A client that asks before it sends a body is refused without sending it, and
// otherwise told to go on.
func TestExpectContinue(t *testing.T) {
	e := endpoints(t)[1]
	put := func(token string) (status int, sent bool) {
		body := &watched{Reader: strings.NewReader("hello")}
		r, err := http.NewRequestWithContext(t.Context(), "PUT", e.blob+"/ws/"+files+"asked", body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 5
		r.Header.Set("Expect", "100-continue")
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("x-ms-blob-type", "BlockBlob")
		transport := e.client.Transport.(*http.Client).Transport.(*http.Transport).Clone()
		transport.ExpectContinueTimeout = time.Minute
		defer transport.CloseIdleConnections()
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, body.read.Load()
	}
	if status, sent := put("bad"); status != 401 || sent {
		t.Errorf("refused with %d, and the body was sent: %v", status, sent)
	}
	if status, sent := put("good"); status != 201 || !sent {
		t.Errorf("answered with %d, and the body was sent: %v", status, sent)
	}
}

type watched struct {
	io.Reader
	read atomic.Bool
}

func (w *watched) Read(b []byte) (int, error) {
	w.read.Store(true)
	return w.Reader.Read(b)
}
