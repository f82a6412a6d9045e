// Package evidence makes the archive that an auditor takes away: what was looked at,
// what was found, and the figures with their inputs, as one signed and dated zip file
// that he verifies without a server.
//
// Every file is in the manifest with its SHA-256, and the manifest is signed. The
// archive has one spelling: files in the manifest's order, stored without
// compression, with nothing else in the headers. [Open] spells it again and compares,
// so that any byte that was changed, a header's or a padding's included, is found.
//
// What the pack says is as good as the scan and the logs that it was made of. Whoever
// holds the signing key can make another.
package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/kluis-io/kluis/fault"
)

// Format names the archive's layout.
const Format = "kluis-evidence/v1"

// The two files that the manifest does not list.
const (
	manifestFile  = "manifest.json"
	signatureFile = "manifest.sig"
)

// mostFiles bounds a pack's files.
const mostFiles = 10_000

// A File is one file of a pack.
type File struct {
	Name string
	Body []byte
}

// A Manifest says what a pack holds.
type Manifest struct {
	Format  string    `json:"format"`
	Made    time.Time `json:"made"`  // seconds, UTC
	Maker   string    `json:"maker"` // program and release
	Subject string    `json:"subject"`
	Files   []Listed  `json:"files"`
}

// A Listed file is one of the manifest's.
type Listed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// statement is what is signed: the first line tells it from a log's checkpoint.
func statement(manifest []byte, made time.Time) string {
	sum := sha256.Sum256(manifest)
	return fmt.Sprintf("%s\nmanifest sha256 %s\nmade %s\n", Format, hex.EncodeToString(sum[:]), made.UTC().Format(time.RFC3339))
}

// Write writes a pack of files, in their order.
func Write(w io.Writer, signer note.Signer, m Manifest, files []File) error {
	m.Format, m.Made, m.Files = Format, m.Made.UTC().Truncate(time.Second), []Listed{}
	for _, f := range files {
		sum := sha256.Sum256(f.Body)
		m.Files = append(m.Files, Listed{f.Name, int64(len(f.Body)), hex.EncodeToString(sum[:])})
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	signature, err := note.Sign(&note.Note{Text: statement(manifest, m.Made)}, signer)
	if err != nil {
		return err
	}
	return spell(w, m, manifest, signature, files)
}

// spell writes the archive, in the one way that there is.
func spell(w io.Writer, m Manifest, manifest, signature []byte, files []File) error {
	z := zip.NewWriter(w)
	for _, f := range append([]File{{manifestFile, manifest}, {signatureFile, signature}}, files...) {
		h := &zip.FileHeader{Name: f.Name, Method: zip.Store, Modified: m.Made}
		h.SetMode(0o444)
		out, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := out.Write(f.Body); err != nil {
			return err
		}
	}
	return z.Close()
}

func broken(format string, args ...any) error {
	return fault.New(fault.Integrity, fmt.Sprintf(format, args...))
}

// Open verifies a pack and returns what it holds. It fails with [fault.Integrity] if
// a byte of it is not as it was signed.
func Open(archive []byte, verifier note.Verifier) (Manifest, []File, error) {
	var m Manifest
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return m, nil, broken("This is no evidence pack: %v.", err)
	}
	if len(z.File) < 2 || len(z.File) > mostFiles {
		return m, nil, broken("A pack has between 2 and %d files, not %d.", mostFiles, len(z.File))
	}
	var files []File
	left := int64(len(archive)) // nothing is compressed, so that no file is larger
	for _, f := range z.File {
		if f.Method != zip.Store || f.UncompressedSize64 > uint64(left) {
			return m, nil, broken("File %q is not stored as a pack's files are.", f.Name)
		}
		left -= int64(f.UncompressedSize64)
		r, err := f.Open()
		if err != nil {
			return m, nil, broken("File %q cannot be read: %v.", f.Name, err)
		}
		body, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return m, nil, broken("File %q cannot be read: %v.", f.Name, err)
		}
		files = append(files, File{f.Name, body})
	}
	if files[0].Name != manifestFile || files[1].Name != signatureFile {
		return m, nil, broken("The pack does not begin with %s and %s.", manifestFile, signatureFile)
	}
	manifest, signature := files[0].Body, files[1].Body
	files = files[2:]
	if err := json.Unmarshal(manifest, &m); err != nil || m.Format != Format {
		return m, nil, broken("The manifest cannot be read, or is of another format.")
	}
	if err := signed(signature, statement(manifest, m.Made), verifier); err != nil {
		return m, nil, err
	}
	if len(files) != len(m.Files) {
		return m, nil, broken("The manifest lists %d files, and there are %d.", len(m.Files), len(files))
	}
	for i, f := range files {
		sum := sha256.Sum256(f.Body)
		if l := m.Files[i]; l.Name != f.Name || l.Size != int64(len(f.Body)) || l.SHA256 != hex.EncodeToString(sum[:]) {
			return m, nil, broken("File %q is not the one that the manifest lists.", f.Name)
		}
	}
	var again bytes.Buffer
	if err := spell(&again, m, manifest, signature, files); err != nil {
		return m, nil, err
	}
	if !bytes.Equal(again.Bytes(), archive) {
		return m, nil, broken("The files are as they were signed, but the archive around them was changed.")
	}
	return m, files, nil
}

// signed checks the one spelling of a signed note that Write gives.
func signed(message []byte, text string, v note.Verifier) error {
	n, err := note.Open(message, note.VerifierList(v))
	if err != nil {
		return fault.Wrap(fault.Integrity, err, "The pack is not signed by the key "+v.Name()+".")
	}
	line, ok := strings.CutPrefix(string(message), text+"\n— "+v.Name()+" ")
	line, newline := strings.CutSuffix(line, "\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(line)
	if n.Text != text || !ok || !newline || err != nil || base64.StdEncoding.EncodeToString(raw) != line {
		return broken("The signature is not of this manifest.")
	}
	return nil
}
