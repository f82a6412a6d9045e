package system_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/internal/devtest"
)

// TestConfined has a server told, while it runs, that its credential lies in a file
// elsewhere, as whoever writes to its folder could tell it: confined it cannot open that
// file, and otherwise it does.
func TestConfined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for confine, opens := range map[string]bool{"require": false, "off": true} {
		t.Run(confine, func(t *testing.T) {
			t.Parallel()
			s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
			p := start(t, s.data, s.port, "KLUIS_CONFINE="+confine)
			if !p.alive() && strings.Contains(p.log.String(), "no Landlock") {
				t.Skip("SKIPPED: this kernel has no Landlock, so that NOT TESTED is that a server gives files up")
			}
			s.connect(t)
			s.furnish(ctx, t)
			elsewhere := filepath.Join(t.TempDir(), "elsewhere") // a pipe, which tells whether somebody opens it
			must(t, unix.Mkfifo(elsewhere, 0o600))
			var opened atomic.Bool
			go func() {
				if f, err := os.OpenFile(elsewhere, os.O_WRONLY, 0); err == nil { // once it has a reader
					opened.Store(true)
					f.Close()
				}
			}()
			file := filepath.Join(s.data, "platform", "credential.json")
			text, err := os.ReadFile(file)
			must(t, err)
			var credential map[string]any
			must(t, json.Unmarshal(text, &credential))
			credential["kind"], credential["file"] = "client-certificate", elsewhere
			text, err = json.Marshal(credential)
			must(t, err)
			must(t, os.WriteFile(file, text, 0o600))
			if s.assign(ctx) == nil {
				t.Fatal("the platform got a token all the same")
			}
			if opened.Load() != opens {
				t.Errorf("it opened the file: %t, want %t", opened.Load(), opens)
			}
			p.stop(t)
			if f, err := os.OpenFile(elsewhere, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
				f.Close() // whoever waits for a reader has had one
			}
		})
	}
}
