package system_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/internal/devtest"
)

// BenchmarkRotation rotates the key of a workspace with few files and with many,
// through the official clients, and waits until the platform has moved to the new
// version. It reports the time, and the bytes that the whole server wrote
// meanwhile: audit entries and vault included.
func BenchmarkRotation(b *testing.B) {
	for _, files := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
			ctx := context.Background()
			s := &site{data: filepath.Join(b.TempDir(), "data"), port: devtest.FreePort(b)}
			p := start(b, s.data, s.port)
			s.connect(b)
			s.furnish(ctx, b)
			var g errgroup.Group
			g.SetLimit(8)
			for i := len(s.files); i < files; i++ {
				g.Go(func() error {
					_, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, fmt.Sprintf("lake.Lakehouse/Files/many/%d/f-%d", i%50, i), []byte("x"), nil)
					return err
				})
			}
			must(b, g.Wait())
			must(b, s.assign(ctx))
			version := lastSegment(s.await(ctx, b, "Active").KeyVersion)
			time.Sleep(2 * time.Second) // until nothing is going on
			before := p.written(b)
			for b.Loop() {
				key, err := s.keys.RotateKey(ctx, keyName, nil)
				must(b, err)
				for version != key.Key.KID.Version() {
					st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
					must(b, err)
					version = lastSegment(st.KeyVersion)
				}
			}
			b.ReportMetric(float64(p.written(b)-before)/float64(b.N), "written-B/op")
		})
	}
}

func lastSegment(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// cpu returns how much CPU the process has used so far, in seconds.
func (p *process) cpu(t testing.TB) float64 {
	t.Helper()
	return cpuOf(t, strconv.Itoa(p.cmd.Process.Pid), false)
}

// cpuOf returns what a process has used of the CPU, in seconds, with its children that are
// gone if asked to; 0 if it is gone itself (proc(5)).
func cpuOf(t testing.TB, pid string, gone bool) (seconds float64) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	used := fields[11:13] // utime and stime, in hundredths
	if gone {
		used = fields[11:15]
	}
	for _, v := range used {
		n, err := strconv.Atoi(v)
		must(t, err)
		seconds += float64(n) / 100
	}
	return seconds
}

// written returns how many bytes the process has had written to files so far.
func (p *process) written(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("the system does not say what a process has written")
	return 0
}
