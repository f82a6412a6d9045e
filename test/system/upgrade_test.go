package system_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var makeGolden = flag.String("golden", "", "keep a data folder of this version under the name, in testdata/golden")

// goldenPort is part of golden data folders: key identifiers hold it.
const goldenPort = "39443"

// A golden data folder is what a release has left behind, and what is in it.
type golden struct {
	Workspace, Container, Lakehouse, VaultID, Identifier string
	Files                                                map[string][]byte
	Versions                                             int // of the key
}

// TestUpgrade opens the data folder of every release so far: whatever was there reads
// back, all goes on, and neither fsck nor the audit log finds anything.
//
// With -golden NAME it makes a folder of the version as it is, once a release.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if *makeGolden != "" {
		keepGolden(ctx, t, filepath.Join("testdata", "golden", *makeGolden+".tar.gz"))
	}
	all, err := filepath.Glob("testdata/golden/*.tar.gz")
	must(t, err)
	if len(all) == 0 {
		t.Fatal("there is no golden data folder")
	}
	if l, err := net.Listen("tcp", "127.0.0.1:"+goldenPort); err != nil {
		t.Skipf("SKIPPED: port %s, which the golden folders' key identifiers hold, is taken: %v", goldenPort, err)
	} else {
		l.Close()
	}
	for _, name := range all {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".tar.gz"), func(t *testing.T) {
			s := &site{data: filepath.Join(t.TempDir(), "data"), port: goldenPort}
			g := unpack(t, name, s.data)
			s.workspace, s.container, s.lakehouse, s.vaultID, s.identifier, s.files = g.Workspace, g.Container, g.Lakehouse, g.VaultID, g.Identifier, g.Files
			before, err := os.ReadFile(filepath.Join(s.data, "platform", "kluis.db"))
			must(t, err)
			for _, args := range [][]string{{"backup", "--into", filepath.Join(t.TempDir(), "points")}, {"audit", "verify"}} {
				out, err := kluis(t, s.data, append(args, "--data", s.data)...).CombinedOutput()
				if refused := strings.Contains(string(out), "of another release"); err != nil && !refused || name == all[0] && !refused { // the oldest surely is
					t.Errorf("%v of tables of that release: %v\n%s", args, err, out)
				}
			}
			if after, err := os.ReadFile(filepath.Join(s.data, "platform", "kluis.db")); err != nil || !bytes.Equal(before, after) {
				t.Errorf("a backup has changed the database: %v", err)
			}
			p := start(t, s.data, s.port)
			if !p.alive() {
				t.Fatalf("it does not start:\n%s", p.log)
			}
			s.connect(t)
			must(t, s.readBack(ctx))
			s.await(ctx, t, "Active")
			n := 0
			for pager := s.keys.NewListKeyPropertiesVersionsPager(keyName, nil); pager.More(); {
				page, err := pager.NextPage(ctx)
				must(t, err)
				n += len(page.Value)
			}
			if n != g.Versions {
				t.Errorf("the key has %d versions, and had %d", n, g.Versions)
			}
			s.put(ctx, t, "lake.Lakehouse/Files/folder 1/of now.bin", []byte("written by this version"))
			_, err = s.keys.RotateKey(ctx, keyName, nil)
			must(t, err)
			must(t, s.reset(ctx))
			s.await(ctx, t, "Disabled")
			must(t, s.assign(ctx))
			s.await(ctx, t, "Active")
			must(t, s.readBack(ctx))
			p.stop(t)
			s.fsck(t)
			if out, err := kluis(t, s.data, "audit", "verify", "--data", s.data).CombinedOutput(); err != nil {
				t.Errorf("audit verify: %v\n%s", err, out)
			}
		})
	}
}

// keepGolden makes a data folder with something of everything, and packs it.
func keepGolden(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	if _, err := os.Stat(name); err == nil {
		t.Fatalf("%s is there: golden folders are never made again", name)
	}
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: goldenPort}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	fsys, err := s.engineer.FileSystem(s.container)
	must(t, err)
	for path, content := range s.files {
		if len(content) > 50_000 { // it does not compress
			_, err := fsys.NewFileClient(path).Delete(ctx, nil)
			must(t, err)
			delete(s.files, path)
		}
	}
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	_, err = s.keys.RotateKey(ctx, keyName, nil)
	must(t, err)
	eventually(ctx, t, time.Minute, func() error {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		if err == nil && len(st.KeyVersions) < 2 {
			err = errNotDone("rotation")
		}
		return err
	})
	p.stop(t)
	s.fsck(t)
	about, err := json.Marshal(golden{s.workspace, s.container, s.lakehouse, s.vaultID, s.identifier, s.files, 2})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.data, "golden.json"), about, 0o600))

	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	must(t, err)
	w := tar.NewWriter(z)
	must(t, filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name, err = filepath.Rel(s.data, path)
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if err != nil || w.WriteHeader(h) != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}))
	must(t, w.Close())
	must(t, z.Close())
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, packed.Bytes(), 0o644))
	t.Logf("%s has %d bytes", name, packed.Len())
}

// unpack unpacks a golden data folder, and returns what is in it.
func unpack(t *testing.T, name, dir string) (g golden) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		at := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(at, 0o700))
			must(t, os.Chmod(at, h.FileInfo().Mode().Perm()))
			continue
		}
		text, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(at, text, 0o600))
		must(t, os.Chmod(at, h.FileInfo().Mode().Perm()))
	}
	about := filepath.Join(dir, "golden.json")
	text, err := os.ReadFile(about)
	must(t, err)
	must(t, json.Unmarshal(text, &g))
	must(t, os.Remove(about))
	if len(g.Files) == 0 {
		t.Fatal(fmt.Errorf("%s says of no files", name))
	}
	return g
}
