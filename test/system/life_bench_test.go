package system_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
)

// count returns a number that the environment may set.
func count(b *testing.B, name string, otherwise int) int {
	n := otherwise
	if text := os.Getenv(name); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(b, err)
	}
	return n
}

// BenchmarkLife takes a workspace of many items and files through the life of its
// scope, through the official clients: assign, rotate, revoke, restore, reset. Each
// is told in seconds, from the request until the platform says that nothing is in
// progress any more (for rotate until the new version is in use, for revoke and restore
// until a read is refused, or answers), in the server's CPU, and in the bytes that it
// wrote meanwhile. Run it with -benchtime 1x.
//
// KLUIS_BENCH_ITEMS and KLUIS_BENCH_FILES say how many there are.
func BenchmarkLife(b *testing.B) {
	items, files := count(b, "KLUIS_BENCH_ITEMS", 1_000), count(b, "KLUIS_BENCH_FILES", 5_000)
	b.Run(fmt.Sprintf("items=%d/files=%d", items, files), func(b *testing.B) {
		ctx := context.Background()
		s := &site{data: b.TempDir() + "/data", port: devtest.FreePort(b)}
		p := start(b, s.data, s.port)
		s.connect(b)
		s.furnish(ctx, b)
		var g errgroup.Group
		g.SetLimit(16)
		for i := 2; i < items; i++ {
			g.Go(func() error {
				return patiently(func() error {
					return s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/items",
						map[string]string{"displayName": fmt.Sprintf("item-%d", i), "type": "Lakehouse"}, nil)
				})
			})
		}
		must(b, g.Wait())
		for i := range files {
			g.Go(func() error {
				_, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, fmt.Sprintf("lake.Lakehouse/Files/many/%d/f-%d", i%50, i), []byte("x"), nil)
				return err
			})
		}
		must(b, g.Wait())
		const path = "lake.Lakehouse/Files/many/9/f-9"
		read := func() error { _, err := s.get(ctx, path); return err }
		step := func(name string, act func() time.Duration) {
			time.Sleep(2 * time.Second) // until nothing is going on
			written, cpu, began := p.written(b), p.cpu(b), time.Now()
			took := act()
			if took == 0 {
				took = time.Since(began)
			}
			b.ReportMetric(took.Seconds(), name+"-s")
			b.ReportMetric(p.cpu(b)-cpu, name+"-cpu-s")
			time.Sleep(2 * time.Second)
			b.ReportMetric(float64(p.written(b)-written), name+"-B")
		}
		enable := func(on bool) {
			for pager := s.keys.NewListKeyPropertiesVersionsPager(keyName, nil); pager.More(); {
				page, err := pager.NextPage(ctx)
				must(b, err)
				for _, v := range page.Value {
					_, err := s.keys.UpdateKey(ctx, keyName, v.KID.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
					must(b, err)
				}
			}
		}
		for b.Loop() {
			step("assign", func() time.Duration { must(b, s.assign(ctx)); s.settled(ctx, b, "Active"); return 0 })
			step("rotate", func() time.Duration {
				began := time.Now()
				key, err := s.keys.RotateKey(ctx, keyName, nil)
				must(b, err)
				for { // telling ten thousand items takes longer than the rotation: the answer says when that was
					time.Sleep(time.Second)
					for _, v := range s.settled(ctx, b, "Active").KeyVersions {
						if lastSegment(v.KID) == key.Key.KID.Version() {
							return v.First.Sub(began)
						}
					}
				}
			})
			step("revoke", func() time.Duration { enable(false); until(b, func() bool { return refusedByKey(read()) }); return 0 })
			step("restore", func() time.Duration { enable(true); until(b, func() bool { return read() == nil }); return 0 })
			step("reset", func() time.Duration { must(b, s.reset(ctx)); s.settled(ctx, b, "Disabled"); return 0 })
		}
		must(b, read())
	})
}

// patiently tries again what was throttled.
func patiently(act func() error) error {
	for {
		err := act()
		var fe *sdk.FabricError
		if !errors.As(err, &fe) || fe.Status != 429 {
			return err
		}
		time.Sleep(time.Second)
	}
}

// settled waits until the workspace is in the status. It asks ever more seldom, at
// last every two seconds: to say how ten thousand items are costs something, too.
func (s *site) settled(ctx context.Context, b *testing.B, status string) sdk.EncryptionStatus {
	for pause := 50 * time.Millisecond; ; pause = min(pause*3/2, 2*time.Second) {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		must(b, err)
		if st.Detail.Status == status {
			return st
		}
		time.Sleep(pause)
	}
}

// until waits until something is so.
func until(b *testing.B, so func() bool) {
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("it does not happen")
		}
	}
}
