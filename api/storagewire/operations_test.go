package storagewire_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	azblobblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"
	datalakelease "github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/lease"
)

func blobClient(t *testing.T, e endpoint) *azblob.Client {
	t.Helper()
	return must(azblob.NewClient(e.blob, credential("good"), &azblob.ClientOptions{ClientOptions: e.client}))(t)
}

func bytesOf(s string) io.ReadSeekCloser { return streaming.NopCloser(strings.NewReader(s)) }

func TestCopies(t *testing.T) {
	for _, e := range endpoints(t) {
		t.Run(e.name, func(t *testing.T) {
			ctx, c, dir := t.Context(), blobClient(t, e), files+e.name+"/"
			cc := c.ServiceClient().NewContainerClient("ws")
			content := random(300_000)
			must(c.UploadBuffer(ctx, "ws", dir+"a b", content, &azblob.UploadBufferOptions{
				HTTPHeaders: &azblobblob.HTTPHeaders{BlobContentType: to.Ptr("text/x")}, Metadata: map[string]*string{"k": to.Ptr("v")},
			}))(t)
			source := cc.NewBlobClient(dir + "a b").URL()

			// Copy Blob, which is done when it answers.
			to1 := cc.NewBlockBlobClient(dir + "copy")
			started := must(to1.StartCopyFromURL(ctx, source+"?ignored=1", nil))(t)
			props := must(to1.GetProperties(ctx, nil))(t)
			if *started.CopyStatus != azblobblob.CopyStatusTypeSuccess || *props.CopyID != *started.CopyID || *props.CopyProgress != "300000/300000" ||
				*props.CopySource != source || *props.ContentType != "text/x" || meta(props.Metadata, "k") != "v" || *props.ContentLength != 300_000 {
				t.Errorf("copied: %+v", props)
			}
			if got := must(io.ReadAll(must(to1.DownloadStream(ctx, nil))(t).Body))(t); !bytes.Equal(got, content) {
				t.Error("the copy differs")
			}
			_, err := to1.AbortCopyFromURL(ctx, *started.CopyID, nil)
			wantCode(t, err, 409, "NoPendingCopyOperation")

			// Put Blob From URL and Put Block From URL, of ranges.
			to2 := cc.NewBlockBlobClient(dir + "put")
			must(to2.UploadBlobFromURL(ctx, source, &blockblob.UploadBlobFromURLOptions{Metadata: map[string]*string{"z": to.Ptr("y")}}))(t)
			props = must(to2.GetProperties(ctx, nil))(t)
			if props.CopyID != nil || meta(props.Metadata, "z") != "y" || meta(props.Metadata, "k") != "" || *props.ContentLength != 300_000 {
				t.Errorf("put: %+v", props)
			}
			to3 := cc.NewBlockBlobClient(dir + "blocks")
			id := base64.StdEncoding.EncodeToString([]byte("1"))
			must(to3.StageBlockFromURL(ctx, id, source, &blockblob.StageBlockFromURLOptions{Range: azblobblob.HTTPRange{Offset: 100, Count: 200_000}}))(t)
			must(to3.CommitBlockList(ctx, []string{id, id}, nil))(t)
			if got := must(io.ReadAll(must(to3.DownloadStream(ctx, nil))(t).Body))(t); !bytes.Equal(got, append(bytes.Clone(content[100:200_100]), content[100:200_100]...)) {
				t.Error("the blocks differ")
			}

			// What does not fit.
			_, err = to1.StartCopyFromURL(ctx, cc.NewBlobClient(dir+"none").URL(), nil)
			wantCode(t, err, 404, "CannotVerifyCopySource")
			_, err = to1.StartCopyFromURL(ctx, cc.NewBlobClient(strings.TrimSuffix(dir, "/")).URL(), nil)
			wantCode(t, err, 409, "ResourceTypeMismatch")
			_, err = to1.StartCopyFromURL(ctx, source, &azblobblob.StartCopyFromURLOptions{AccessConditions: &azblobblob.AccessConditions{
				ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
			}})
			wantCode(t, err, 409, "BlobAlreadyExists")
			_, err = to1.StartCopyFromURL(ctx, source, &azblobblob.StartCopyFromURLOptions{SourceModifiedAccessConditions: &azblobblob.SourceModifiedAccessConditions{
				SourceIfMatch: to.Ptr(azcore.ETag(`"0x1"`)),
			}})
			wantCode(t, err, 412, "SourceConditionNotMet")
		})
	}
}

func TestAppendBlobs(t *testing.T) {
	e := endpoints(t)[0]
	ctx, c := t.Context(), blobClient(t, e)
	cc := c.ServiceClient().NewContainerClient("ws")
	a := cc.NewAppendBlobClient(files + "log")
	must(a.Create(ctx, nil))(t)
	_, err := a.Create(ctx, &appendblob.CreateOptions{AccessConditions: &azblobblob.AccessConditions{
		ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
	}})
	wantCode(t, err, 409, "BlobAlreadyExists")
	first := must(a.AppendBlock(ctx, bytesOf("one,"), nil))(t)
	second := must(a.AppendBlock(ctx, bytesOf("two,"), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: to.Ptr(int64(4)), MaxSize: to.Ptr(int64(8))},
	}))(t)
	if *first.BlobAppendOffset != "0" || *second.BlobAppendOffset != "4" || *second.BlobCommittedBlockCount != 2 {
		t.Errorf("%s %s %d", *first.BlobAppendOffset, *second.BlobAppendOffset, *second.BlobCommittedBlockCount)
	}
	_, err = a.AppendBlock(ctx, bytesOf("x"), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: to.Ptr(int64(4))},
	})
	wantCode(t, err, 412, "AppendPositionConditionNotMet")
	_, err = a.AppendBlock(ctx, bytesOf("x"), &appendblob.AppendBlockOptions{
		AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{MaxSize: to.Ptr(int64(8))},
	})
	wantCode(t, err, 412, "MaxBlobSizeConditionNotMet")
	must(a.AppendBlockFromURL(ctx, a.URL(), &appendblob.AppendBlockFromURLOptions{Range: azblobblob.HTTPRange{Offset: 4, Count: 3}}))(t)
	got := must(a.DownloadStream(ctx, nil))(t)
	if b := must(io.ReadAll(got.Body))(t); string(b) != "one,two,two" || *got.BlobType != azblobblob.BlobTypeAppendBlob || *got.BlobCommittedBlockCount != 3 {
		t.Errorf("%q %s", b, *got.BlobType)
	}
	// Its copy is one too, and grows on.
	b := cc.NewAppendBlobClient(files + "log2")
	must(b.StartCopyFromURL(ctx, a.URL(), nil))(t)
	must(b.AppendBlock(ctx, bytesOf("!"), nil))(t)
	if got := must(io.ReadAll(must(b.DownloadStream(ctx, nil))(t).Body))(t); string(got) != "one,two,two!" {
		t.Errorf("the copy: %q", got)
	}
	// Blocks and appends do not mix.
	bb := cc.NewBlockBlobClient(files + "log")
	_, err = bb.StageBlock(ctx, "AAAA", bytesOf("x"), nil)
	wantCode(t, err, 409, "InvalidBlobType")
	_, err = bb.CommitBlockList(ctx, nil, nil)
	wantCode(t, err, 409, "InvalidBlobType")
	must(bb.Upload(ctx, bytesOf("block"), nil))(t)
	_, err = a.AppendBlock(ctx, bytesOf("x"), nil)
	wantCode(t, err, 409, "InvalidBlobType")
	page := must(c.NewListBlobsFlatPager("ws", &azblob.ListBlobsFlatOptions{Prefix: to.Ptr(files + "log")}).NextPage(ctx))(t)
	if items := page.Segment.BlobItems; len(items) != 2 || *items[0].Properties.BlobType != "BlockBlob" || *items[1].Properties.BlobType != "AppendBlob" {
		t.Errorf("listed: %+v", items)
	}
}

func TestLeases(t *testing.T) {
	e := endpoints(t)[0]
	ctx, c := t.Context(), blobClient(t, e)
	cc := c.ServiceClient().NewContainerClient("ws")
	b := cc.NewBlockBlobClient(files + "leased/file")
	must(b.Upload(ctx, bytesOf("1"), nil))(t)
	id := "11111111-1111-4111-8111-111111111111"
	l := must(lease.NewBlobClient(b, &lease.BlobClientOptions{LeaseID: &id}))(t)
	with := &azblobblob.AccessConditions{LeaseAccessConditions: &azblobblob.LeaseAccessConditions{LeaseID: &id}}
	before := must(b.GetProperties(ctx, nil))(t)
	must(l.AcquireLease(ctx, -1, nil))(t)
	p := must(b.GetProperties(ctx, nil))(t)
	if *p.LeaseState != "leased" || *p.LeaseStatus != "locked" || *p.LeaseDuration != "infinite" || *p.ETag != *before.ETag {
		t.Errorf("leased: %s %s, ETag %s after %s", *p.LeaseState, *p.LeaseStatus, *p.ETag, *before.ETag)
	}
	page := must(c.NewListBlobsFlatPager("ws", &azblob.ListBlobsFlatOptions{Prefix: to.Ptr(files + "leased/")}).NextPage(ctx))(t)
	if i := page.Segment.BlobItems[0].Properties; *i.LeaseState != "leased" || *i.LeaseStatus != "locked" {
		t.Errorf("listed: %+v", i)
	}

	// Nobody else writes; with the lease one may.
	for name, do := range map[string]func(*azblobblob.AccessConditions) error{
		"put": func(a *azblobblob.AccessConditions) error {
			_, err := b.Upload(ctx, bytesOf("2"), &blockblob.UploadOptions{AccessConditions: a})
			return err
		},
		"metadata": func(a *azblobblob.AccessConditions) error {
			_, err := b.SetMetadata(ctx, nil, &azblobblob.SetMetadataOptions{AccessConditions: a})
			return err
		},
		"properties": func(a *azblobblob.AccessConditions) error {
			_, err := b.SetHTTPHeaders(ctx, azblobblob.HTTPHeaders{}, &azblobblob.SetHTTPHeadersOptions{AccessConditions: a})
			return err
		},
		"block list": func(a *azblobblob.AccessConditions) error {
			_, err := b.CommitBlockList(ctx, nil, &blockblob.CommitBlockListOptions{AccessConditions: a})
			return err
		},
	} {
		wantCode(t, do(nil), 412, "LeaseIdMissing")
		if err := do(with); err != nil {
			t.Errorf("%s under the lease: %v", name, err)
		}
	}
	_, err := b.StageBlock(ctx, "AAAA", bytesOf("x"), nil)
	wantCode(t, err, 412, "LeaseIdMissing")
	_, err = b.Delete(ctx, nil)
	wantCode(t, err, 412, "LeaseIdMissing")
	other := "22222222-2222-4222-8222-222222222222"
	_, err = b.Upload(ctx, bytesOf("x"), &blockblob.UploadOptions{AccessConditions: &azblobblob.AccessConditions{LeaseAccessConditions: &azblobblob.LeaseAccessConditions{LeaseID: &other}}})
	wantCode(t, err, 412, "LeaseIdMismatchWithBlobOperation")
	fs := must(filesystem.NewClient(e.dfs+"/ws", credential("good"), &filesystem.ClientOptions{ClientOptions: e.client}))(t)
	_, err = fs.NewDirectoryClient(files+"leased").Delete(ctx, nil)
	wantCode(t, err, 412, "LeaseIdMissing")
	f := fs.NewFileClient(files + "leased/file")
	_, err = f.Rename(ctx, files+"leased/moved", nil)
	wantCode(t, err, 412, "LeaseIdMissing")

	// The life of a lease.
	l2 := must(lease.NewBlobClient(b, &lease.BlobClientOptions{LeaseID: &other}))(t)
	_, err = l2.AcquireLease(ctx, 15, nil)
	wantCode(t, err, 409, "LeaseAlreadyPresent")
	must(l.ChangeLease(ctx, other, nil))(t)
	must(l2.RenewLease(ctx, nil))(t)
	if broken := must(l2.BreakLease(ctx, &lease.BlobBreakOptions{BreakPeriod: to.Ptr(int32(60))}))(t); *broken.LeaseTime < 59 {
		t.Errorf("broken in %d s", *broken.LeaseTime)
	}
	_, err = l2.AcquireLease(ctx, -1, nil)
	wantCode(t, err, 409, "LeaseIsBreakingAndCannotBeAcquired")
	must(l2.BreakLease(ctx, &lease.BlobBreakOptions{BreakPeriod: to.Ptr(int32(0))}))(t)
	_, err = l2.RenewLease(ctx, nil)
	wantCode(t, err, 409, "LeaseIsBrokenAndCannotBeRenewed")
	must(b.SetMetadata(ctx, nil, nil))(t) // and with that it is gone
	_, err = l2.BreakLease(ctx, nil)
	wantCode(t, err, 409, "LeaseNotPresentWithLeaseOperation")
	_, err = b.SetMetadata(ctx, nil, &azblobblob.SetMetadataOptions{AccessConditions: with})
	wantCode(t, err, 412, "LeaseNotPresentWithBlobOperation")

	// The other dialect's leases are the same.
	dl := must(datalakelease.NewPathClient(f, &datalakelease.PathClientOptions{LeaseID: &id}))(t)
	must(dl.AcquireLease(ctx, 30, nil))(t)
	_, err = f.SetMetadata(ctx, nil, nil)
	wantCode(t, err, 412, "LeaseIdMissing")
	_, err = f.AppendData(ctx, 0, bytesOf("x"), nil)
	wantCode(t, err, 412, "LeaseIdMissing")
	if err := f.UploadBuffer(ctx, []byte("x"), &file.UploadBufferOptions{AccessConditions: &file.AccessConditions{LeaseAccessConditions: &file.LeaseAccessConditions{LeaseID: &id}}}); err == nil {
		t.Log("an upload over a longer file succeeded")
	}
	must(dl.ReleaseLease(ctx, nil))(t)
	must(f.Delete(ctx, nil))(t)
}

func TestBatch(t *testing.T) {
	for _, e := range endpoints(t) {
		t.Run(e.name, func(t *testing.T) {
			ctx, c, dir := t.Context(), blobClient(t, e), files+e.name+"/"
			cc := c.ServiceClient().NewContainerClient("ws")
			for _, name := range []string{"a", "b c", "d"} {
				must(c.UploadBuffer(ctx, "ws", dir+name, []byte("x"), nil))(t)
			}
			bb := must(cc.NewBatchBuilder())(t)
			for _, name := range []string{"a", "b c", "none"} {
				if err := bb.Delete(dir+name, nil); err != nil {
					t.Fatal(err)
				}
			}
			resp := must(cc.SubmitBatch(ctx, bb, nil))(t)
			var failed []string
			for _, r := range resp.Responses {
				if r.Error != nil {
					failed = append(failed, *r.ContainerName+"/"+*r.BlobName)
					wantCode(t, r.Error, 404, "BlobNotFound")
				}
			}
			if len(resp.Responses) != 3 || len(failed) != 1 || !strings.HasSuffix(failed[0], "ws/"+dir+"none") {
				t.Errorf("%d answers, failed %q", len(resp.Responses), failed)
			}
			_, err := cc.NewBlobClient(dir+"a").GetProperties(ctx, nil)
			wantCode(t, err, 404, "BlobNotFound")

			sb := must(c.ServiceClient().NewBatchBuilder())(t)
			if err := sb.SetTier("ws", dir+"d", azblobblob.AccessTierCool, nil); err != nil {
				t.Fatal(err)
			}
			tiers := must(c.ServiceClient().SubmitBatch(ctx, sb, nil))(t)
			if len(tiers.Responses) != 1 || tiers.Responses[0].Error != nil {
				t.Errorf("tiers: %+v", tiers.Responses)
			}
		})
	}
}

func TestDelegationKey(t *testing.T) {
	e := endpoints(t)[1]
	ctx, c := t.Context(), blobClient(t, e)
	now := time.Now().UTC()
	info := func(d time.Duration) service.KeyInfo {
		return service.KeyInfo{Start: to.Ptr(now.Format(time.RFC3339)), Expiry: to.Ptr(now.Add(d).Format(time.RFC3339))}
	}
	k := must(c.ServiceClient().GetUserDelegationCredential(ctx, info(50*time.Minute), nil))(t)
	_ = k
	_, err := c.ServiceClient().GetUserDelegationCredential(ctx, info(2*time.Hour), nil)
	wantCode(t, err, 400, "InvalidInput")
	_, err = c.ServiceClient().GetUserDelegationCredential(ctx, info(-time.Minute), nil)
	wantCode(t, err, 400, "InvalidInput")
}

// Bodies in frames are stored as what they hold, and given in frames to who asks.
func TestStructured(t *testing.T) {
	e := endpoints(t)[0]
	ctx, c := t.Context(), blobClient(t, e)
	send := func(method, name string, b []byte, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, method, e.blob+"/ws/"+files+name, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer good")
		r.Header.Set("x-ms-blob-type", "BlockBlob")
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			r.Header.Set(k, v)
		}
		resp, err := e.client.Transport.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	const framed = "x-ms-structured-body: XSM/1.0; properties=crc64"
	for _, n := range []int{0, 1, 5000, 4 << 20, 9<<20 + 5} {
		content := random(n)
		length := "x-ms-structured-content-length: " + itoa(n)
		message := frame(content, 4<<20)
		if resp := send("PUT", "framed", message, framed, length); resp.StatusCode != 201 || resp.Header.Get("x-ms-structured-body") == "" {
			t.Fatalf("%d bytes: %d %s", n, resp.StatusCode, must(io.ReadAll(resp.Body))(t))
		}
		got := must(io.ReadAll(must(c.DownloadStream(ctx, "ws", files+"framed", nil))(t).Body))(t)
		if !bytes.Equal(got, content) {
			t.Fatalf("%d bytes: stored %d others", n, len(got))
		}
		resp := send("GET", "framed", nil, framed)
		if got := must(io.ReadAll(resp.Body))(t); !bytes.Equal(got, message) || resp.Header.Get("x-ms-structured-content-length") != itoa(n) || resp.ContentLength != int64(len(message)) {
			t.Fatalf("%d bytes: given %d in frames, want %d; %v", n, len(got), len(message), resp.Header)
		}
		for at := range message { // a flipped byte anywhere is refused
			if at > 40 && at < len(message)-40 && at != len(message)/2 {
				continue
			}
			broken := bytes.Clone(message)
			broken[at] ^= 0x10
			if n > 5000 && at%7 > 0 {
				continue
			}
			if resp := send("PUT", "broken", broken, framed, length); resp.StatusCode != 400 {
				t.Errorf("%d bytes, byte %d flipped: %d", n, at, resp.StatusCode)
			}
		}
		if resp := send("PUT", "broken", message, framed, "x-ms-structured-content-length: "+itoa(n+1)); resp.StatusCode != 400 {
			t.Errorf("another length: %d", resp.StatusCode)
		}
	}
	if _, err := c.DownloadStream(ctx, "ws", files+"broken", nil); err == nil {
		t.Error("a broken message was stored")
	}
}

// Paths that have nothing but uncommitted blocks are listed where they are asked
// for, in their order and in pages.
func TestListUncommitted(t *testing.T) {
	e := endpoints(t)[0]
	ctx, c := t.Context(), blobClient(t, e)
	cc := c.ServiceClient().NewContainerClient("ws")
	for _, name := range []string{"a", "c/d", "e", "g/h"} {
		must(c.UploadBuffer(ctx, "ws", files+name, []byte("x"), nil))(t)
	}
	for _, name := range []string{"0", "a", "b", "c/c", "f/f", "z"} {
		must(cc.NewBlockBlobClient(files+name).StageBlock(ctx, "AAAA", bytesOf("block"), nil))(t)
	}
	list := func(include bool, most int32) (names []string) {
		for p := c.NewListBlobsFlatPager("ws", &azblob.ListBlobsFlatOptions{
			Prefix: to.Ptr(files), MaxResults: &most, Include: container.ListBlobsInclude{UncommittedBlobs: include},
		}); p.More(); {
			for _, b := range must(p.NextPage(ctx))(t).Segment.BlobItems {
				names = append(names, strings.TrimPrefix(*b.Name, files))
			}
		}
		return names
	}
	for _, most := range []int32{1, 2, 100} {
		if got := strings.Join(list(true, most), " "); got != "0 a b c c/c c/d e f/f g g/h z" {
			t.Errorf("pages of %d: %s", most, got)
		}
	}
	if got := strings.Join(list(false, 3), " "); got != "a c c/d e g g/h" {
		t.Errorf("committed alone: %s", got)
	}
	for _, most := range []int32{1, 3} {
		var got []string
		for p := cc.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{
			Prefix: to.Ptr(files), MaxResults: &most, Include: container.ListBlobsInclude{UncommittedBlobs: true},
		}); p.More(); {
			page := must(p.NextPage(ctx))(t)
			for _, b := range page.Segment.BlobItems {
				got = append(got, strings.TrimPrefix(*b.Name, files))
			}
			for _, b := range page.Segment.BlobPrefixes {
				got = append(got, strings.TrimPrefix(*b.Name, files))
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != "0 a b c/ e f/ g/ z" {
			t.Errorf("one level, pages of %d: %s", most, s)
		}
	}
	props := must(c.ServiceClient().GetProperties(ctx, nil))(t)
	if *props.DeleteRetentionPolicy.Enabled {
		t.Error("the service says that it keeps what is deleted")
	}
}
