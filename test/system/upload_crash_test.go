package system_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/kluis-io/kluis/internal/effort"
)

// uploadPoints are the failpoints between a write's durable effects.
var uploadPoints = []string{
	"lake/upload/extent-begun", "lake/upload/extent-written", "lake/publish/committed", "store/sqlite/before-commit", "store/sqlite/after-commit",
}

// A versioned file holds, from the first byte to the last, the number of the write
// that made it.
type versioned struct {
	path                    string
	size                    int // of a version, in words of 8 bytes
	acknowledged, attempted uint64
	acks                    uint64      // how many writes were acknowledged
	deaf                    atomic.Bool // acknowledgements count no more

	// A conditional file is replaced only as what it was: where a write of which nothing was
	// heard may still take effect, at a replica that stands still, it does not after a later one.
	conditional bool
	etag        *azcore.ETag
}

func (v *versioned) content(n uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d", n), v.size)
}

// write writes the next version, in one piece or in blocks.
func (v *versioned) write(ctx context.Context, s *site) error {
	v.attempted++
	o := &azblob.UploadBufferOptions{}
	if v.size > 1<<10 && v.attempted%2 == 0 {
		o.BlockSize, o.Concurrency = int64(max(64<<10, v.size)), 2
	}
	if v.conditional {
		is := &blob.ModifiedAccessConditions{IfMatch: v.etag}
		if v.etag == nil {
			is.IfNoneMatch = to.Ptr(azcore.ETagAny)
		}
		o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: is}
	}
	done, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, v.path, v.content(v.attempted), o)
	if err == nil {
		v.etag = done.ETag
	} else if v.conditional {
		if now, err := s.engineer.Blobs.ServiceClient().NewContainerClient(s.container).NewBlobClient(v.path).GetProperties(ctx, nil); err == nil {
			v.etag = now.ETag
		}
	}
	if err == nil && !v.deaf.Load() {
		v.acknowledged = v.attempted
		v.acks++
	}
	return err
}

// check reads the file: it is whole, and no older than what was acknowledged.
func (v *versioned) check(ctx context.Context, s *site) error {
	got, err := s.get(ctx, v.path)
	if err != nil {
		if v.acknowledged == 0 {
			return nil // it may well be absent
		}
		return fmt.Errorf("%s: version %d was acknowledged: %w", v.path, v.acknowledged, err)
	}
	if len(got) != 8*v.size {
		return fmt.Errorf("%s has %d bytes, want %d", v.path, len(got), 8*v.size)
	}
	n, err := strconv.ParseUint(string(got[:8]), 10, 64)
	if err != nil || !bytes.Equal(got, v.content(n)) || n < v.acknowledged || n > v.attempted {
		return fmt.Errorf("%s begins as version %d; %d was acknowledged, %d attempted", v.path, n, v.acknowledged, v.attempted)
	}
	v.acknowledged = n // what was read once stays
	return nil
}

// TestCrashUploads kills the server under uploads, at each failpoint of a write and
// at any moment: what was acknowledged is there, what was not is there whole or not
// at all, and fsck finds nothing.
func TestCrashUploads(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, p := underKey(ctx, t)
	p.stop(t)
	var files []*versioned
	for i, words := range []int{8, 500, 4_000, 40_000, 700_000} {
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words})
	}
	var kills []string // a failpoint, or "" for any moment
	for _, point := range uploadPoints {
		switch {
		case slow:
			kills = append(kills, point, "", "")
		case strings.HasPrefix(point, "lake/upload/"): // the others are crashed at by the changes of keys as well
			kills = append(kills, point)
		}
	}
	for _, point := range append(kills, "") {
		p := start(t, s.data, s.port)
		s.connect(t)
		must(t, s.checkVersions(ctx, files))
		p.kill()
		var env []string
		if point != "" {
			env = []string{"KLUIS_FAILPOINTS=" + point + "=exit"}
		}
		p = start(t, s.data, s.port, env...)
		if p.alive() {
			s.connect(t)
			uploads, cancel := context.WithTimeout(ctx, 15*time.Second)
			var writers sync.WaitGroup
			for _, v := range files {
				writers.Go(func() {
					for uploads.Err() == nil && p.alive() {
						one, done := context.WithTimeout(uploads, 5*time.Second)
						v.write(one, s) // until the server dies of one
						done()
					}
				})
			}
			if point == "" {
				time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
				p.kill()
			}
			writers.Wait()
			cancel()
		}
		if p.alive() {
			t.Errorf("no upload passes the failpoint %s: it proves nothing", point)
			p.kill()
		}
	}
	p = start(t, s.data, s.port)
	s.connect(t)
	must(t, s.checkVersions(ctx, files))
	var acknowledged uint64
	for _, v := range files {
		acknowledged += v.acks
	}
	effort.Proof(t, "kills", len(kills)+1, "acknowledged-writes", acknowledged, "acknowledged-writes-lost", 0)
	p.stop(t)
	s.fsck(t)
}

func (s *site) checkVersions(ctx context.Context, files []*versioned) error {
	for _, v := range files {
		if err := v.check(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
