package clients_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The Azure CLI's commands for data as Debian packages it, 2.45, at a workspace: trees
// of 2,000 files through `az storage blob`, with what only `az storage fs` can do. Its
// commands for whole folders of file systems need azcopy, which it downloads.
func TestAzureCLIStorage(t *testing.T) {
	if !slow {
		t.Skip("SKIPPED: the Azure CLI takes seconds a command; it runs in CI (CI=true)")
	}
	t.Parallel()
	if _, err := exec.LookPath("az"); err != nil {
		t.Fatal("the Azure CLI is missing; .ci/run installs it:", err)
	}
	binary, target := serve(t)
	furnish(t, target)
	address, _ := proxy(t)
	az := azLogin(t, binary, address, target, "engineer")[0]
	const folder = "lake.Lakehouse/Files/az"
	storage := func(kind, command string, args ...string) any {
		t.Helper()
		words := append([]string{"storage", kind}, strings.Fields(command)...)
		return az.do(append(append(words, "--account-name", "onelake", "--auth-mode", "login"), args...)...)
	}
	sizes := func(listed any, size ...string) map[string]int64 {
		t.Helper()
		all := map[string]int64{}
		list, ok := listed.([]any)
		if !ok {
			t.Fatalf("a listing of %T", listed)
		}
		for _, f := range list {
			name, _ := at(f, "name").(string)
			n, _ := at(f, size...).(float64)
			if rest, ok := strings.CutPrefix(name, folder+"/"); ok && path.Ext(name) != "" { // folders are listed too
				all[rest] = int64(n)
			}
		}
		return all
	}
	local := plant(t)
	carry(t, local, remote{
		up: func(dir string) {
			storage("blob", "upload-batch", "-d", "clients", "--destination-path", folder, "-s", dir, "--no-progress")
		},
		list: func() map[string]int64 {
			return sizes(storage("blob", "list", "-c", "clients", "--prefix", folder+"/", "--num-results", "*"), "properties", "contentLength")
		},
		check: func() {
			if n := len(sizes(storage("fs", "file list", "-f", "clients", "--path", folder, "--exclude-dir"), "contentLength")); n != len(local.sums) {
				t.Errorf("az storage fs lists %d files", n)
			}
			// What is uploaded as one file, and moved, through the file system.
			const there, other = folder + "/fs/é+ a.bin", folder + "/fs2/moved.bin" // it decodes what it moves: no "%41"
			file, back := filepath.Join(local.dir, "dir 7", "file-7.bin"), filepath.Join(t.TempDir(), "back")
			storage("fs", "directory create", "-f", "clients", "-n", folder+"/fs")
			storage("fs", "file upload", "-f", "clients", "-p", there, "-s", file)
			az.want(at(storage("fs", "file show", "-f", "clients", "-p", there), "size"), float64(local.sizes["dir 7/file-7.bin"]))
			storage("fs", "directory create", "-f", "clients", "-n", folder+"/fs2")
			storage("fs", "file move", "-f", "clients", "-p", there, "--new-path", "clients/"+other)
			az.want(at(storage("fs", "file exists", "-f", "clients", "-p", there), "exists"), false)
			storage("fs", "file download", "-f", "clients", "-p", other, "-d", back)
			if b, err := os.ReadFile(back); err != nil || string(b) != string(bodyOf(7)) {
				t.Errorf("what az storage fs brought back is %d bytes, %v", len(b), err)
			}
			storage("fs", "directory delete", "-f", "clients", "-n", folder+"/fs", "--yes")
			storage("fs", "directory delete", "-f", "clients", "-n", folder+"/fs2", "--yes")
		},
		read: func(name string, offset, count int) []byte {
			file := filepath.Join(t.TempDir(), "range")
			storage("blob", "download", "-c", "clients", "-n", folder+"/"+name, "-f", file, "--no-progress",
				"--start-range", strconv.Itoa(offset), "--end-range", strconv.Itoa(offset+count-1))
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		move: func(from, to string) {
			storage("fs", "directory create", "-f", "clients", "-n", folder+"/"+path.Dir(to))
			storage("fs", "directory move", "-f", "clients", "-n", folder+"/"+from, "--new-directory", "clients/"+folder+"/"+to)
		},
		down: func(dir string) {
			all := filepath.Join(t.TempDir(), "all")
			if err := os.Mkdir(all, 0o700); err != nil {
				t.Fatal(err)
			}
			// It would download folders as files.
			storage("blob", "download-batch", "-s", "clients", "-d", all, "--pattern", folder+"/*.*", "--no-progress")
			if err := os.Rename(filepath.Join(all, filepath.FromSlash(folder)), dir); err != nil {
				t.Fatal(err)
			}
		},
		remove: func() { storage("fs", "directory delete", "-f", "clients", "-n", folder, "--yes") },
	})
}
