// Package s3 keeps objects in a bucket of Amazon S3 or of a store that speaks its
// protocol. Package objstore/remote says how.
//
// What is asked of a store: read-after-write consistency, multipart uploads, ranges,
// and ListObjectsV2. If it knows If-None-Match: * on PutObject and
// CompleteMultipartUpload no object is ever written twice; without it, see
// [Config.Overwrite], a repeated request writes the same bytes again.
//
// Of checksums only those that an operation requires are sent, because many stores
// know no others. That what is stored is what was sent is checked by the SHA-256 that
// each request's signature covers; that what is read is what was stored, by the sealed
// format.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/objstore/remote"
)

// A Config says where a bucket is. All but Bucket and HTTP may be left out.
type Config struct {
	Bucket string
	Prefix string // below which the objects lie

	// Endpoint is the store's address if it is not Amazon's; buckets are then named in
	// the path and not in the host's name.
	Endpoint string
	// Region is AWS_REGION's, or that of the shared configuration file, if empty.
	Region string
	// Overwrite leaves If-None-Match out, for a store that does not know it.
	Overwrite bool

	// Credentials are in a file of the AWS tools' format (AWS_SHARED_CREDENTIALS_FILE).
	// If it is empty they are looked for where the AWS tools look: the environment,
	// the shared files, a workload's token, the machine's role.
	Credentials string

	HTTP *http.Client
}

const (
	maxTries   = 4 // of each request
	maxBackoff = 2 * time.Second

	// markKey is the name of the metadata that holds an object's mark.
	markKey = "kluis-mark"
)

// Open returns the store. It asks it nothing.
func Open(ctx context.Context, c Config) (*remote.Store, error) {
	var load []func(*config.LoadOptions) error
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	if c.Credentials != "" {
		load = append(load, config.WithSharedCredentialsFiles([]string{c.Credentials}), config.WithSharedConfigProfile("default"))
	}
	settings, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	if settings.Region == "" {
		return nil, errors.New("the bucket's region is not known: add ?region=… to its address, or set AWS_REGION")
	}
	api := s3.NewFromConfig(settings, func(o *s3.Options) {
		o.HTTPClient = c.HTTP
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = maxTries, maxBackoff
			o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{"ConditionalRequestConflict": {}}})
		})
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true // where a store does not keep them
		if c.Endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = &c.Endpoint, true
		}
	})
	b := &bucket{api: api, name: &c.Bucket}
	if !c.Overwrite {
		b.absent = aws.String("*")
	}
	return remote.New(b, c.Prefix), nil
}

// A bucket is a [remote.Client].
type bucket struct {
	api    *s3.Client
	name   *string
	absent *string // If-None-Match of what creates an object; nil if the store does not know it
}

func (b *bucket) Put(ctx context.Context, name, mark string, body []byte) error {
	_, err := b.api.PutObject(ctx, &s3.PutObjectInput{
		Bucket: b.name, Key: &name, Body: bytes.NewReader(body), IfNoneMatch: b.absent, Metadata: map[string]string{markKey: mark},
	})
	return failed(err)
}

func (b *bucket) Begin(ctx context.Context, name, mark string) (remote.Upload, error) {
	out, err := b.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: b.name, Key: &name, Metadata: map[string]string{markKey: mark},
	})
	if err != nil {
		return nil, failed(err)
	}
	return &upload{bucket: b, name: name, id: out.UploadId}, nil
}

type upload struct {
	*bucket
	name  string
	id    *string
	parts []types.CompletedPart
}

func (u *upload) Part(ctx context.Context, body []byte) error {
	number := aws.Int32(int32(len(u.parts) + 1))
	out, err := u.api.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: u.bucket.name, Key: &u.name, UploadId: u.id, PartNumber: number, Body: bytes.NewReader(body),
	})
	if err != nil {
		return failed(err)
	}
	u.parts = append(u.parts, types.CompletedPart{PartNumber: number, ETag: out.ETag})
	return nil
}

func (u *upload) Finish(ctx context.Context) error {
	_, err := u.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: u.bucket.name, Key: &u.name, UploadId: u.id, IfNoneMatch: u.absent,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	})
	if code(err) == "NoSuchUpload" { // an earlier try may have finished it
		return remote.ErrExists
	}
	return failed(err)
}

func (u *upload) Cancel(ctx context.Context) error {
	return u.cancel(ctx, &u.name, u.id)
}

func (b *bucket) cancel(ctx context.Context, name, id *string) error {
	_, err := b.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b.name, Key: name, UploadId: id})
	if code(err) == "NoSuchUpload" {
		return nil
	}
	return failed(err)
}

func (b *bucket) Mark(ctx context.Context, name string) (string, error) {
	out, err := b.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b.name, Key: &name})
	if err != nil {
		return "", failed(err)
	}
	return out.Metadata[markKey], nil
}

func (b *bucket) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, int64, error) {
	out, err := b.api.GetObject(ctx, &s3.GetObjectInput{Bucket: b.name, Key: &name, Range: aws.String(remote.Range(off, n))})
	if code(err) == "InvalidRange" && off == 0 {
		return http.NoBody, 0, nil
	}
	if err != nil {
		return nil, 0, failed(err)
	}
	size, err := remote.Size(aws.ToString(out.ContentRange), off)
	if err != nil {
		out.Body.Close()
		return nil, 0, err
	}
	return out.Body, size, nil
}

// Fetch has the body held against the checksum that Swap gave it: a store that keeps an
// object's tag apart from its content may answer with the old content and the new tag.
func (b *bucket) Fetch(ctx context.Context, name string) (io.ReadCloser, int64, string, error) {
	out, err := b.api.GetObject(ctx, &s3.GetObjectInput{Bucket: b.name, Key: &name, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return nil, 0, "", failed(err)
	}
	return out.Body, aws.ToInt64(out.ContentLength), aws.ToString(out.ETag), nil
}

func (b *bucket) Swap(ctx context.Context, name, tag string, body []byte) error {
	sum := sha256.Sum256(body)
	in := &s3.PutObjectInput{
		Bucket: b.name, Key: &name, Body: bytes.NewReader(body), ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	if tag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &tag
	}
	_, err := b.api.PutObject(ctx, in)
	if err = failed(err); tag != "" && errors.Is(err, fault.NotFound) {
		return remote.ErrExists // it was there, and is not any more
	}
	return err
}

func (b *bucket) Delete(ctx context.Context, name string) error {
	_, err := b.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b.name, Key: &name})
	if err = failed(err); errors.Is(err, fault.NotFound) {
		return nil // Amazon says 204, others this
	}
	return err
}

func (b *bucket) List(ctx context.Context, prefix string, each func(string, time.Time) error) error {
	pages := s3.NewListObjectsV2Paginator(b.api, &s3.ListObjectsV2Input{Bucket: b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failed(err)
		}
		for _, o := range page.Contents {
			if err := each(aws.ToString(o.Key), aws.ToTime(o.LastModified)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bucket) Reap(ctx context.Context, prefix string, before time.Time) error {
	pages := s3.NewListMultipartUploadsPaginator(b.api, &s3.ListMultipartUploadsInput{Bucket: b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failed(err)
		}
		for _, u := range page.Uploads {
			if !strings.HasPrefix(aws.ToString(u.Key), prefix) || !aws.ToTime(u.Initiated).Before(before) {
				continue
			}
			if err := b.cancel(ctx, u.Key, u.UploadId); err != nil {
				return err
			}
		}
	}
	return nil
}

// code returns the store's code for an error, "" if it has none.
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// failed maps an error.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func failed(err error) error {
	if err == nil {
		return nil
	}
	switch code(err) {
	case "NoSuchKey", "NotFound":
		return remote.Missing(err)
	case "PreconditionFailed":
		return remote.ErrExists
	}
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		switch status := answer.HTTPStatusCode(); {
		case status == http.StatusPreconditionFailed:
			return remote.ErrExists
		case status >= 300 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
			return remote.Refused(err)
		}
	}
	return remote.Failed(err)
}
