package system_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/kluis-io/kluis/test/powercut"
)

// A promise is something that a client was told, and how to see that it was kept.
type promise struct {
	at    int // events that had reached the disks when it was told
	what  string
	check func(context.Context, *site) error
}

// A ledger says when a file's versions were begun and acknowledged: of version n the
// number of events that had reached the disks is at n-1.
type ledger struct {
	versioned
	began, told []int
	known       []uint64 // the versions told, in step with told
}

// write writes the next version, and notes when.
func (l *ledger) write(ctx context.Context, s *site, now func() int) error {
	l.began = append(l.began, now())
	err := l.versioned.write(ctx, s)
	if err == nil {
		l.told, l.known = append(l.told, now()), append(l.known, l.attempted)
	}
	return err
}

// at is the file as clients knew it when so many events had reached the disks.
func (l *ledger) at(events int) *versioned {
	v := &versioned{path: l.path, size: l.size}
	v.attempted = uint64(countUpTo(l.began, events))
	if n := countUpTo(l.told, events); n > 0 {
		v.acknowledged = l.known[n-1]
	}
	return v
}

// countUpTo counts the numbers up to n in a sorted list.
func countUpTo(sorted []int, n int) int {
	i, _ := slices.BinarySearch(sorted, n+1)
	return i
}

// A recording is what clients were told while a record was taken.
type recording struct {
	mu       sync.Mutex
	promises []promise
	files    []*ledger
}

func (r *recording) promise(at int, what string, check func(context.Context, *site) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.promises = append(r.promises, promise{at, what, check})
}

// told is how often a client was told something.
func (r *recording) told() int {
	n := len(r.promises)
	for _, f := range r.files {
		n += len(f.told)
	}
	return n
}

// moments are n moments of a record in their order: of every two, one when somebody had just
// been told something.
func (r *recording) moments(dice *rand.Rand, events, n int) (moments []int) {
	var told []int
	for _, p := range r.promises {
		told = append(told, p.at)
	}
	for _, f := range r.files {
		told = append(told, f.told...)
	}
	for i := range n {
		if i%2 == 0 {
			moments = append(moments, told[dice.IntN(len(told))])
		} else {
			moments = append(moments, 1+dice.IntN(events))
		}
	}
	slices.Sort(moments)
	return moments
}

// check looks at all files, and at the newest promises of before a moment and a few others.
func (r *recording) check(ctx context.Context, s *site, at int, dice *rand.Rand) (checked int, err error) {
	for _, l := range r.files {
		v := l.at(at)
		if v.acknowledged > 0 {
			checked++
		}
		if err := v.check(ctx, s); err != nil {
			return 0, err
		}
	}
	var due []promise
	for _, p := range r.promises {
		if p.at <= at {
			due = append(due, p)
		}
	}
	slices.SortFunc(due, func(a, b promise) int { return b.at - a.at })
	for i, p := range due {
		if i >= 4 && dice.IntN(len(due)) >= 4 {
			continue
		}
		checked++
		if err := p.check(ctx, s); err != nil {
			return 0, fmt.Errorf("%s: %w", p.what, err)
		}
	}
	return checked, nil
}

func (r *recording) makeFile(ctx context.Context, s *site, recorder *powercut.Recorder, i int) error {
	path := fmt.Sprintf("lake.Lakehouse/Files/made/%d.bin", i)
	want := bytes.Repeat(fmt.Appendf(nil, "%08d", i), 10<<(i%12))
	if _, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, path, want, nil); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.promise(recorder.Now(), path+" was made", func(ctx context.Context, s *site) error {
		got, err := s.get(ctx, path)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("it has %d bytes, want %d", len(got), len(want))
		}
		return err
	})
	return nil
}

func (r *recording) deleteFile(ctx context.Context, s *site, recorder *powercut.Recorder, i int) error {
	path := fmt.Sprintf("lake.Lakehouse/Files/deleted/%d.bin", i)
	if _, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, path, make([]byte, 100<<(i%10)), nil); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := s.engineer.Blobs.DeleteBlob(ctx, s.container, path, nil); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.promise(recorder.Now(), path+" was deleted", func(ctx context.Context, s *site) error {
		if _, err := s.get(ctx, path); !bloberror.HasCode(err, bloberror.BlobNotFound) {
			return fmt.Errorf("a read is answered with %v", err)
		}
		return nil
	})
	return nil
}

func (r *recording) makeKey(ctx context.Context, s *site, recorder *powercut.Recorder, i int) error {
	name := fmt.Sprint("made-", i)
	made, err := s.keys.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, made.Key.X, made.Key.Y))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.promise(recorder.Now(), "the key "+name+" was made", func(ctx context.Context, s *site) error {
		sum := sha256.Sum256([]byte(name))
		signed, err := s.keys.Sign(ctx, name, made.Key.KID.Version(), azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: sum[:]}, nil)
		if err != nil {
			return err
		}
		if sig := signed.Result; len(sig) != 64 || !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
			return errors.New("it signs, but not as what it was made")
		}
		return nil
	})
	return nil
}

// rotate makes a version of the workspace's key; the platform follows by itself.
func (r *recording) rotate(ctx context.Context, s *site, recorder *powercut.Recorder, i int) error {
	if i > 2 {
		return nil
	}
	made, err := s.keys.RotateKey(ctx, keyName, nil)
	if err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	version := made.Key.KID.Version()
	r.promise(recorder.Now(), "version "+version+" of the workspace's key was made", func(ctx context.Context, s *site) error {
		_, err := s.keys.GetKey(ctx, keyName, version, nil)
		return err
	})
	return nil
}
