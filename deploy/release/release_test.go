package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/kluis-io/kluis/internal/effort"
)

// The unit gives the service as little as systemd's own judge asks for.
func TestUnit(t *testing.T) {
	analyse, err := exec.LookPath("systemd-analyze")
	if err != nil {
		effort.Missing(t, "systemd-analyze (Debian: systemd)", "deploy/kluis.service")
	}
	out, err := exec.Command(analyse, "security", "--offline=true", "--threshold=20", "../kluis.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
	t.Logf("%s", out[max(0, bytes.LastIndexByte(bytes.TrimSpace(out), '\n')):])
}

// A signature is what minisign reads: the prehashed message, and the trusted comment.
func TestSignature(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	message := []byte("sums")
	text, public := minisign(key, message, "kluis 1.2.3")
	lines := strings.Split(text, "\n")
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pub, sig := decode(public), decode(lines[1])
	if len(pub) != 42 || len(sig) != 74 || string(pub[:2]) != "Ed" || string(sig[:2]) != "ED" || !bytes.Equal(pub[2:10], sig[2:10]) {
		t.Fatalf("key of %d bytes, signature of %d", len(pub), len(sig))
	}
	hash := blake2b.Sum512(message)
	comment := strings.TrimPrefix(lines[2], "trusted comment: ")
	if !ed25519.Verify(pub[10:], hash[:], sig[10:]) || !ed25519.Verify(pub[10:], append(sig[10:74:74], comment...), decode(lines[3])) {
		t.Error("the signature does not hold")
	}
}

// Two releases of one commit are the same to the byte; what is packed runs, and says
// what it is made of. In CI it is kluis, with KLUIS_EFFORT=full in both flavours, and else
// a small program in its place.
func TestRelease(t *testing.T) {
	program, flavours, of := "./cmd/kluis", []string{"", "-fips"}, "pkg:golang/github.com/prometheus/client_golang@"
	switch effort.Of(0, 1, 2) {
	case 0:
		program, flavours, of = "./test/simulation", []string{""}, "pkg:golang/stdlib@"
	case 1:
		flavours = []string{""}
	}
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		effort.Missing(t, "dpkg-deb (Debian: dpkg)", "Debian packages")
	}
	t.Chdir("../..")
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("07", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	var dirs [2]string
	for i := range sums {
		dirs[i] = filepath.Join(t.TempDir(), "dist")
		r := release{out: dirs[i], version: "1.2.3", program: program}
		var builds []build
		for _, f := range flavours {
			builds = append(builds, build{runtime.GOARCH, f})
		}
		if err := r.make(t.Context(), builds, key); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dirs[i], sumsFile))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(b)
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ:\n%s\n%s", sums[0], sums[1])
	}
	for _, flavour := range flavours {
		root, deb := t.TempDir(), filepath.Join(dirs[0], "kluis"+flavour+"_1.2.3_"+runtime.GOARCH+".deb")
		if out, err := exec.Command(dpkg, "-x", deb, root).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v: %s", err, out)
		}
		if lintian, err := exec.LookPath("lintian"); err == nil { // Debian's own judge, where it is
			if out, err := exec.Command(lintian, "--fail-on", "error", deb).CombinedOutput(); err != nil {
				t.Errorf("lintian: %v\n%s", err, out)
			}
		}
		args, want := []string{"--version"}, "1.2.3"
		if program != "./cmd/kluis" {
			args, want = []string{"-workspaces", "10", "-replicas", "1"}, "steady state"
		}
		out, err := exec.Command(filepath.Join(root, "usr/bin/kluis"), args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("the packaged binary says %q: %v", out, err)
		}
		for _, name := range []string{"usr/lib/systemd/system/kluis.service", "etc/kluis/kluis.yaml"} {
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Error(err)
			}
		}
		if text := unzipped(t, filepath.Join(root, "usr/share/doc/kluis"+flavour+"/changelog.gz")); !strings.Contains(text, "(1.2.3)") || !strings.Contains(text, "\n -- ") {
			t.Errorf("the list of changes is %q", text)
		}
		info, err := exec.Command("go", "version", "-m", filepath.Join(root, "usr/bin/kluis")).Output()
		if fips := regexp.MustCompile(`GOFIPS140=v1\.0\.0`).Match(info); err != nil || fips != (flavour != "") {
			t.Errorf("flavour %q: built with FIPS %v: %v", flavour, fips, err)
		}
		for _, form := range []string{".cdx.json", ".spdx.json"} {
			b, err := os.ReadFile(filepath.Join(dirs[0], "kluis-linux-"+runtime.GOARCH+flavour+form))
			var bill map[string]any
			if err != nil || json.Unmarshal(b, &bill) != nil || !strings.Contains(string(b), of) {
				t.Errorf("the bill %s%s does not say what is in it: %v", flavour, form, err)
			}
		}
	}
}

func unzipped(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return string(text)
}
