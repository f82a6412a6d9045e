package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/kluis-io/kluis/internal/sdk"
)

// code returns a service's own word for what went wrong.
func code(err error) string {
	var re *azcore.ResponseError
	var fe *sdk.FabricError
	switch {
	case errors.As(err, &re):
		return fmt.Sprintf("%d %s", re.StatusCode, re.ErrorCode)
	case errors.As(err, &fe):
		return fmt.Sprintf("%d %s", fe.Status, fe.Code)
	case err != nil:
		return err.Error()
	}
	return "no error"
}

// cutOff reports whether err is what a storage client gets once the customer's
// key is refused.
func cutOff(err error) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == 403 && strings.HasPrefix(re.ErrorCode, "KeyVault")
}

// limit is how soon a revocation takes effect with a kluis vault.
const limit = 5 * time.Second

// revokeAndRestore cuts the platform off in three ways, and lets it in again.
func (s *Story) revokeAndRestore(ctx context.Context) error {
	s.Step("6", "The security officer revokes, in three ways")
	s.Step("7", "and restores, after each: nobody does anything on the platform")
	for _, w := range s.ways() {
		if err := s.cut(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *Story) cut(ctx context.Context, w way) error {
	stream, err := s.startDownload(ctx)
	if err != nil {
		return fmt.Errorf("starting a download: %w", err)
	}
	defer stream.close()
	if err := w.revoke(ctx); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	revoked := time.Now()
	small := smallest(s.files)
	var last error
	err = eventually(ctx, 2*time.Minute, func() (bool, error) {
		last = s.read(ctx, small.path)
		return cutOff(last), nil
	})
	took := time.Since(revoked)
	stream.hurry.Store(true) // what is on its way still comes, and no more
	s.Claim(err == nil && took < limit, "%s: reads fail after %s (%s)", w.name, took.Round(time.Millisecond), code(last))
	err = s.put(ctx, file{path: small.path, data: []byte("overwritten while revoked")})
	s.Claim(cutOff(err), "  writes fail (%s)", code(err))
	_, err = s.listed(ctx)
	s.Claim(cutOff(err), "  listings fail (%s)", code(err))
	end := stream.wait()
	s.Claim(end.err != nil && end.at.Sub(revoked) < limit, "  a download that was running was cut after %s, at %s of %s: %s",
		end.at.Sub(revoked).Round(time.Millisecond), mebibytes(end.read), mebibytes(stream.size), brief(end.err))
	st, err := s.status(ctx)
	s.Claim(err == nil && st.Serving.State == "Revoked", "  the workspace says that it is %s", st.Serving.State)

	if err := w.restore(ctx); err != nil {
		return fmt.Errorf("taking it back: %w", err)
	}
	restored := time.Now()
	err = eventually(ctx, 2*time.Minute, func() (bool, error) {
		err := s.read(ctx, small.path)
		return err == nil, err
	})
	took = time.Since(restored)
	if err == nil {
		err = s.readBack(ctx)
	}
	s.Claim(err == nil, "  taken back: everything reads again after %s%s", took.Round(time.Millisecond), because(err))
	return nil
}

func brief(err error) string {
	if err == nil {
		return "it ended cleanly"
	}
	t := err.Error()
	return t[:min(len(t), 80)]
}

func (s *Story) read(ctx context.Context, p string) error {
	r, err := s.engineer.Blobs.DownloadStream(ctx, s.lake.name, s.lake.prefix()+p, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// A download reads slowly until it is told to hurry, so that it is still running
// when the key is taken away, and what is in flight is not counted for long.
type download struct {
	size  int64
	hurry atomic.Bool
	body  io.ReadCloser
	done  chan ending
}

type ending struct {
	at   time.Time
	read int64
	err  error // nil if it ended as a whole download does
}

// startDownload starts to download the largest file.
func (s *Story) startDownload(ctx context.Context) (*download, error) {
	f := largest(s.files)
	r, err := s.engineer.Blobs.DownloadStream(ctx, s.lake.name, s.lake.prefix()+f.path, nil)
	if err != nil {
		return nil, err
	}
	d := &download{size: int64(len(f.data)), body: r.Body, done: make(chan ending, 1)}
	go func() {
		var e ending
		buf := make([]byte, 32<<10)
		for e.err == nil {
			var n int
			n, e.err = d.body.Read(buf)
			e.read += int64(n)
			if !d.hurry.Load() {
				time.Sleep(20 * time.Millisecond)
			}
		}
		e.at = time.Now()
		if e.err == io.EOF {
			e.err = nil
		}
		d.done <- e
	}()
	return d, nil
}

func (d *download) wait() ending { return <-d.done }

func (d *download) close() { d.body.Close() }
