package demo

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// A needle is a byte string that must not be found on the disk.
type needle struct {
	what  string
	bytes []byte
}

// shortest is the length below which a byte string turns up by chance.
const shortest = 6

// needles are the things of the tenant's that the disk must not show: pieces of
// each file's content, the names of files and folders, and the metadata.
func needles(files []file, more map[string]string) (all []needle) {
	add := func(what string, b []byte) {
		if len(b) >= shortest {
			all = append(all, needle{what, b})
		}
	}
	text := func(what, s string) {
		add(what, []byte(s))
		add(what+" in base64", []byte(base64.StdEncoding.EncodeToString([]byte(s))))
	}
	for _, f := range files {
		for _, at := range []int{0, len(f.data) / 3, len(f.data) / 2, len(f.data) - 32} {
			if at < 0 {
				at = 0
			}
			piece := f.data[at:min(at+32, len(f.data))]
			if varied(piece) {
				add("content of a file", piece)
			}
		}
		text("a file's name", path.Base(f.path))
	}
	for _, name := range folders(files) {
		text("a folder's name", name)
	}
	for what, s := range more {
		text(what, s)
	}
	return all
}

// varied reports whether a piece is one that only its file holds: enough of its
// bytes differ.
func varied(b []byte) bool {
	var seen [256]bool
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n >= 10
}

// A find is a needle that lies in a file.
type find struct {
	needle needle
	file   string
}

func (f find) String() string { return f.needle.what + " in " + f.file }

// search looks for the needles in every file below dir and says what it found
// where, and how many bytes it read.
func search(dir string, all []needle) (found []find, read int64, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		read += int64(len(data))
		for _, n := range all {
			if bytes.Contains(data, n.bytes) {
				rel, _ := filepath.Rel(dir, p)
				found = append(found, find{n, rel})
			}
		}
		return nil
	})
	return found, read, err
}
