package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"

	"github.com/kluis-io/kluis/internal/devtest"
)

// errEndedEarly says that a body was ended cleanly before its length.
var errEndedEarly = errors.New("a body was ended cleanly, and too early")

// A streamer reads in one way without pausing, and notes when the last plaintext
// came.
type streamer struct {
	way  string
	once func(context.Context, func()) error // calls the function at each byte or name that comes
	last time.Time
	err  error // that must not be

	began chan struct{} // closed when the first came
}

func (r *streamer) run(ctx context.Context) {
	begin := sync.OnceFunc(func() { close(r.began) })
	for ctx.Err() == nil {
		err := r.once(ctx, func() { r.last = time.Now(); begin() })
		switch {
		case errors.Is(err, errEndedEarly):
			r.err = err
			return
		case err != nil:
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// TestRevocationWhileStreaming disables the key under 50 readers, of a whole large
// file, of ranges of it and of listings: to none of them comes a byte of plaintext
// later than the bound, and no body is ended as if it were whole.
func TestRevocationWhileStreaming(t *testing.T) {
	t.Parallel()
	if !slow {
		t.Skip("SKIPPED: fifty readers load the machine for half a minute and more; it runs in CI (CI=true)")
	}
	const readers, size = 50, 48 << 20
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	large := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(large)
	const path = "lake.Lakehouse/Files/large.bin"
	s.put(ctx, t, path, large)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")

	read := func(ctx context.Context, came func(), at azblob.HTTPRange) error {
		r, err := s.engineer.Blobs.DownloadStream(ctx, s.container, path, &azblob.DownloadStreamOptions{Range: at})
		if err != nil {
			return err
		}
		defer r.Body.Close()
		want := int64(size)
		if at.Count > 0 {
			want = at.Count
		}
		buf := make([]byte, 64<<10)
		var n int64
		for {
			k, err := r.Body.Read(buf)
			if k > 0 {
				came()
				if from := at.Offset + n; !bytes.Equal(buf[:k], large[from:from+int64(k)]) {
					return errEndedEarly // or worse
				}
			}
			n += int64(k)
			switch {
			case err == io.EOF && n != want:
				return errEndedEarly
			case err == io.EOF:
				return nil
			case err != nil:
				return err
			}
		}
	}
	whole := func(ctx context.Context, came func()) error { return read(ctx, came, azblob.HTTPRange{}) }
	ranged := func(ctx context.Context, came func()) error {
		return read(ctx, came, azblob.HTTPRange{Offset: rand.Int64N(size - 1<<20), Count: 1 << 20})
	}
	listed := func(ctx context.Context, came func()) error {
		page, err := s.engineer.Blobs.NewListBlobsFlatPager(s.container, &azblob.ListBlobsFlatOptions{
			Prefix: to.Ptr("lake.Lakehouse/Files/"),
		}).NextPage(ctx)
		if err == nil && len(page.Segment.BlobItems) > 0 {
			came()
		}
		return err
	}
	var all []*streamer
	for i := range readers {
		r := &streamer{way: "whole", once: whole, began: make(chan struct{})}
		switch {
		case i%5 == 3:
			r.way, r.once = "ranged", ranged
		case i%5 == 4:
			r.way, r.once = "listed", listed
		}
		all = append(all, r)
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	for _, r := range all {
		running.Go(func() { r.run(reading) })
	}
	late := time.After(time.Minute) // a store elsewhere may be slow to serve all of them
	for _, r := range all {
		select {
		case <-r.began:
		case <-late:
			t.Fatalf("a reader, %s, gets nothing", r.way)
		}
	}
	time.Sleep(2 * time.Second) // they are under way
	off := false
	_, err := s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &off}}, nil)
	must(t, err)
	revoked := time.Now()
	time.Sleep(bound + 2*time.Second)
	stop()
	running.Wait()

	lasts := map[string][]time.Duration{}
	for i, r := range all {
		if r.err != nil {
			t.Errorf("reader %d, %s: %v", i, r.way, r.err)
		}
		if r.last.IsZero() {
			t.Errorf("reader %d, %s, never got anything", i, r.way)
		}
		lasts[r.way] = append(lasts[r.way], max(0, r.last.Sub(revoked)))
	}
	for way, d := range lasts {
		report(t, fmt.Sprintf("last plaintext, %s", way), d)
		if slices.Max(d) > bound {
			t.Errorf("%s: plaintext came %s after the key was disabled, bound %s", way, slices.Max(d), bound)
		}
	}
	on := true
	_, err = s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
	must(t, err)
	eventually(ctx, t, 30*time.Second, func() error { return s.readBack(ctx) })
	p.stop(t)
}
