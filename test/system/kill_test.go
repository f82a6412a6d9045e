package system_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/effort"
)

// TestKills kills the server at any moment, KLUIS_KILLS times, while files of all sizes
// are written, the key is rotated, and it is switched off and on: each acknowledged write
// is there after the restart, each file is whole, the key says what its custodian was
// told, and in the end fsck finds nothing.
func TestKills(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, p := underKey(ctx, t)
	var files []*versioned
	for i, words := range []int{8, 500, 4_000, 40_000, 200_000} {
		files = append(files, &versioned{path: fmt.Sprintf("lake.Lakehouse/Files/v/%d.bin", i), size: words})
	}
	n := times(t, "KLUIS_KILLS", 3, 20)
	var versions, wanted int // of the key: acknowledged, and asked for
	for i := range n {
		work, cancel := context.WithCancel(ctx)
		var writers sync.WaitGroup
		for _, v := range files {
			writers.Go(func() {
				for work.Err() == nil && p.alive() {
					one, done := context.WithTimeout(work, 5*time.Second)
					v.write(one, s)
					done()
				}
			})
		}
		rotated := make(chan struct{})
		if i%20 == 7 || i%20 == 17 {
			writers.Go(func() {
				defer close(rotated)
				wanted++
				if _, err := s.keys.RotateKey(work, keyName, nil); err == nil {
					versions++
				}
			})
		}
		if i%20 == 17 { // as soon as the rotation is acknowledged
			<-rotated
		} else {
			time.Sleep(time.Duration(20+rand.IntN(380)) * time.Millisecond)
		}
		p.kill()
		cancel()
		writers.Wait()
		p = start(t, s.data, s.port)
		s.connect(t)
		// Switched off for somebody to have switched it off, on for the reads below.
		if i%20 == 13 {
			off := false
			_, err := s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &off}}, nil)
			must(t, err)
			p.kill()
			p = start(t, s.data, s.port)
			s.connect(t)
			got, err := s.keys.GetKey(ctx, keyName, "", nil)
			must(t, err)
			if *got.Attributes.Enabled {
				t.Fatalf("after kill %d: the key was switched off, and is on", i+1)
			}
			_, err = s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)}}, nil)
			must(t, err)
		}
		for _, v := range files {
			eventually(ctx, t, 40*time.Second, func() error {
				err := v.check(ctx, s)
				if refusedByKey(err) {
					return err // until the platform has heard that the key is on again
				}
				if err != nil {
					t.Fatalf("after kill %d: %v", i+1, err)
				}
				return nil
			})
		}
		if (i+1)%100 == 0 {
			t.Logf("%d kills so far", i+1)
		}
	}
	var acknowledged uint64
	for _, v := range files {
		acknowledged += v.acks
	}
	if acknowledged == 0 {
		t.Error("no write was acknowledged: it proves nothing")
	}
	there := 0
	for pager := s.keys.NewListKeyPropertiesVersionsPager(keyName, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		must(t, err)
		there += len(page.Value)
	}
	if there < 1+versions || there > 1+wanted {
		t.Errorf("%d versions of the key are there; %d were made, and %d asked for", there, 1+versions, 1+wanted)
	}
	for path, want := range s.files {
		if got, err := s.get(ctx, path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", path, len(got), len(want), err)
		}
	}
	p.stop(t)
	s.fsck(t)
	effort.Proof(t, "kills", n, "acknowledged-writes", acknowledged, "acknowledged-writes-lost", 0, "rotations-acknowledged", versions, "rotations-lost", 0)
}
