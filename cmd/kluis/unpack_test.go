package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzUnpack: a backup, which anybody may have written, puts no file anywhere but under the
// folder that it is unpacked into, and none that its manifest does not name.
func FuzzUnpack(f *testing.F) {
	packed := func(names ...string) []byte {
		m := manifest{Version: manifestVersion}
		for _, n := range names {
			sum := sha256.Sum256([]byte(n))
			m.Files = append(m.Files, fileManifest{Name: n, Size: int64(len(n)), SHA256: hex.EncodeToString(sum[:])})
		}
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.WriteHeader(&tar.Header{Name: manifestFile, Size: int64(len(text)), Mode: 0o600})
		w.Write(text)
		for _, n := range names {
			w.WriteHeader(&tar.Header{Name: n, Size: int64(len(n)), Mode: 0o600})
			w.Write([]byte(n))
		}
		w.Close()
		return b.Bytes()
	}
	f.Add([]byte{})
	f.Add(packed())
	f.Add(packed(instanceFile))
	f.Add(packed(instanceFile, vaultDir+"/"+databaseFile, vaultDir+"/"+auditKeyFile))
	f.Add(packed("../outside"))
	f.Add(packed("/outside"))
	f.Add(packed(vaultDir + "/../../outside"))
	f.Fuzz(func(t *testing.T, backup []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "into")
		m, err := unpack(bytes.NewReader(backup), dir)
		if err != nil {
			m.Files = nil
		}
		named := map[string]bool{}
		for _, file := range m.Files {
			named[file.Name] = true
		}
		filepath.WalkDir(above, func(path string, d fs.DirEntry, walked error) error {
			name, inside := strings.CutPrefix(path, dir+string(filepath.Separator))
			switch {
			case walked != nil:
				t.Error(walked)
			case d.IsDir():
			case !inside || err == nil && !named[filepath.ToSlash(name)]:
				t.Errorf("it wrote %s", path)
			}
			return nil
		})
		if _, err := os.Lstat("/outside"); err == nil {
			t.Error("it wrote /outside")
		}
	})
}
