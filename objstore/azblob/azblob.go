// Package azblob keeps objects as block blobs in a container of Azure Blob Storage or
// of a store that speaks its protocol. Package objstore/remote says how.
//
// That what is stored is what was sent is checked by TLS; that what is read is what
// was stored, by the sealed format. Blocks of uploads that were never finished are
// the store's to remove, after a week.
package azblob

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/objstore/remote"
)

// A Config says where a container is. Endpoint and Prefix may be left out, and so may
// Key or Tokens.
type Config struct {
	Account   string
	Container string
	Prefix    string // below which the objects lie
	Endpoint  string // the account's address, if it is not https://ACCOUNT.blob.core.windows.net

	Key    string                 // the account's; tokens are used if it is empty
	Tokens azcore.TokenCredential // of a principal that may read, write and delete the container's blobs

	HTTP *http.Client
}

const (
	retries    = 3 // of each request
	retryDelay = 200 * time.Millisecond
	maxDelay   = 2 * time.Second

	// markKey is the name of the metadata that holds an object's mark: an identifier of
	// C#, as the service demands.
	markKey = "kluismark"
)

// Open returns the store. It asks it nothing.
func Open(c Config) (*remote.Store, error) {
	endpoint := strings.TrimSuffix(c.Endpoint, "/")
	if endpoint == "" {
		endpoint = "https://" + c.Account + ".blob.core.windows.net"
	}
	options := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: c.HTTP,
		Retry:     policy.RetryOptions{MaxRetries: retries, RetryDelay: retryDelay, MaxRetryDelay: maxDelay},
		Telemetry: policy.TelemetryOptions{ApplicationID: "kluis"},
	}}
	var api *container.Client
	var err error
	if c.Key == "" {
		api, err = container.NewClient(endpoint+"/"+c.Container, c.Tokens, options)
	} else {
		var key *container.SharedKeyCredential
		if key, err = container.NewSharedKeyCredential(c.Account, c.Key); err != nil {
			return nil, errors.New("the storage account's key is not one: it is base64") // the cause may quote it
		}
		api, err = container.NewClientWithSharedKeyCredential(endpoint+"/"+c.Container, key, options)
	}
	if err != nil {
		return nil, err
	}
	return remote.New(client{api}, c.Prefix), nil
}

// A client is a [remote.Client].
type client struct{ api *container.Client }

// absent is the condition that there is no blob of the name.
func absent() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

func (c client) Put(ctx context.Context, name, mark string, body []byte) error {
	_, err := c.api.NewBlockBlobClient(name).Upload(ctx, streaming.NopCloser(bytes.NewReader(body)), &blockblob.UploadOptions{
		Metadata: map[string]*string{markKey: &mark}, AccessConditions: absent(),
	})
	return failed(err)
}

// Begin asks the store nothing: its first part does.
func (c client) Begin(_ context.Context, name, mark string) (remote.Upload, error) {
	return &upload{api: c.api.NewBlockBlobClient(name), mark: mark}, nil
}

type upload struct {
	api    *blockblob.Client
	mark   string
	blocks []string
}

func (u *upload) Part(ctx context.Context, body []byte) error {
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%06d", u.mark, len(u.blocks)))
	_, err := u.api.StageBlock(ctx, id, streaming.NopCloser(bytes.NewReader(body)), nil)
	if err != nil {
		return failed(err)
	}
	u.blocks = append(u.blocks, id)
	return nil
}

func (u *upload) Finish(ctx context.Context) error {
	_, err := u.api.CommitBlockList(ctx, u.blocks, &blockblob.CommitBlockListOptions{
		Metadata: map[string]*string{markKey: &u.mark}, AccessConditions: absent(),
	})
	return failed(err)
}

func (u *upload) Cancel(context.Context) error { return nil }

func (c client) Mark(ctx context.Context, name string) (string, error) {
	out, err := c.api.NewBlobClient(name).GetProperties(ctx, nil)
	if err != nil {
		return "", failed(err)
	}
	for key, value := range out.Metadata { // headers' names come in any case
		if strings.EqualFold(key, markKey) && value != nil {
			return *value, nil
		}
	}
	return "", nil
}

func (c client) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, int64, error) {
	out, err := c.api.NewBlobClient(name).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: n}})
	if off == 0 && bloberror.HasCode(err, bloberror.InvalidRange) {
		return http.NoBody, 0, nil
	}
	if err != nil {
		return nil, 0, failed(err)
	}
	var contentRange string
	if out.ContentRange != nil {
		contentRange = *out.ContentRange
	}
	size, err := remote.Size(contentRange, off)
	if err != nil {
		out.Body.Close()
		return nil, 0, err
	}
	return out.Body, size, nil
}

func (c client) Fetch(ctx context.Context, name string) (io.ReadCloser, int64, string, error) {
	out, err := c.api.NewBlobClient(name).DownloadStream(ctx, nil)
	if err != nil {
		return nil, 0, "", failed(err)
	}
	if out.ETag == nil || out.ContentLength == nil {
		out.Body.Close()
		return nil, 0, "", remote.Failed(errors.New("a blob without an ETag or a length"))
	}
	return out.Body, *out.ContentLength, string(*out.ETag), nil
}

func (c client) Swap(ctx context.Context, name, tag string, body []byte) error {
	conditions := absent()
	if tag != "" {
		conditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(tag))}}
	}
	_, err := c.api.NewBlockBlobClient(name).Upload(ctx, streaming.NopCloser(bytes.NewReader(body)), &blockblob.UploadOptions{AccessConditions: conditions})
	if err = failed(err); tag != "" && errors.Is(err, fault.NotFound) {
		return remote.ErrExists // it was there, and is not any more
	}
	return err
}

func (c client) Delete(ctx context.Context, name string) error {
	_, err := c.api.NewBlobClient(name).Delete(ctx, nil)
	if err = failed(err); errors.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

func (c client) List(ctx context.Context, prefix string, each func(string, time.Time) error) error {
	pages := c.api.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failed(err)
		}
		for _, b := range page.Segment.BlobItems {
			if b.Name == nil || b.Properties == nil || b.Properties.LastModified == nil {
				return remote.Failed(errors.New("the listing has an entry without name or time"))
			}
			if err := each(*b.Name, *b.Properties.LastModified); err != nil {
				return err
			}
		}
	}
	return nil
}

// Reap leaves it to the store.
func (c client) Reap(context.Context, string, time.Time) error { return nil }

// failed maps an error.
// https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
func failed(err error) error {
	if err == nil {
		return nil
	}
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return remote.Failed(err)
	}
	switch code := bloberror.Code(answer.ErrorCode); {
	case code == bloberror.BlobNotFound:
		return remote.Missing(err)
	case code == bloberror.BlobAlreadyExists, code == bloberror.ConditionNotMet, answer.StatusCode == http.StatusPreconditionFailed:
		return remote.ErrExists
	case answer.StatusCode >= 300 && answer.StatusCode < 500 &&
		answer.StatusCode != http.StatusRequestTimeout && answer.StatusCode != http.StatusTooManyRequests:
		return remote.Refused(err)
	}
	return remote.Failed(err)
}
