package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"
	"github.com/schollz/progressbar/v3"

	"github.com/kluis-io/kluis/internal/sdk"
)

// fillLakehouse is the engineer's work: a workspace, two items and data.
func (s *Story) fillLakehouse(ctx context.Context) error {
	s.Step("2", "A data engineer makes a workspace with a Lakehouse and a Notebook, and uploads files")
	f := s.engineer.Fabric
	s.lake = lakehouse{
		name:        "risk-" + randomHex(4),
		displayName: "counterparties_" + randomHex(4),
		metadata:    map[string]*string{"owner": to.Ptr("treasury-desk-" + randomHex(4))},
	}
	// Words that the disk holds before anything is uploaded are the program's own.
	own, _, err := search(s.DataDir, s.needles())
	if err != nil {
		return err
	}
	s.common = map[string]bool{}
	for _, f := range own {
		s.common[string(f.needle.bytes)] = true
	}
	var made struct {
		ID string `json:"id"`
	}
	if err := f.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": s.lake.name}, &made); err != nil {
		return fmt.Errorf("creating the workspace: %w", err)
	}
	s.lake.workspace = made.ID
	if err := f.Call(ctx, "POST", "/workspaces/"+s.lake.workspace+"/items", map[string]string{"displayName": s.lake.displayName, "type": "Lakehouse"}, &made); err != nil {
		return fmt.Errorf("creating the Lakehouse: %w", err)
	}
	s.lake.id = made.ID
	notebook := map[string]any{
		"displayName": "exposure_" + randomHex(4), "type": "Notebook",
		"definition": map[string]any{"parts": []map[string]string{{
			"path": "notebook-content.py", "payloadType": "InlineBase64",
			"payload": base64.StdEncoding.EncodeToString([]byte(notebookText)),
		}}},
	}
	if err := f.Call(ctx, "POST", "/workspaces/"+s.lake.workspace+"/items", notebook, &made); err != nil {
		return fmt.Errorf("creating the Notebook: %w", err)
	}
	s.lake.notebook = made.ID
	var total int64
	for _, one := range s.files {
		if err := s.put(ctx, one); err != nil {
			return fmt.Errorf("uploading: %w", err)
		}
		total += int64(len(one.data))
	}
	s.Tell("uploaded %d files, %s, through azblob", len(s.files), mebibytes(total))
	err = s.readBack(ctx)
	s.Claim(err == nil, "every file reads back byte for byte%s", because(err))
	n, err := s.listed(ctx)
	s.Claim(err == nil && n == len(s.files), "azdatalake lists all %d of them%s", len(s.files), because(err))
	return nil
}

const notebookText = "# exposure at default, by counterparty\ndf = spark.read.parquet('Files/payments')\n"

func (s *Story) put(ctx context.Context, f file) error {
	_, err := s.engineer.Blobs.UploadBuffer(ctx, s.lake.name, s.lake.prefix()+f.path, f.data, &blockblob.UploadBufferOptions{Metadata: s.lake.metadata})
	return err
}

// readBack reads every file and compares it with what was uploaded.
func (s *Story) readBack(ctx context.Context) error {
	for _, f := range s.files {
		r, err := s.engineer.Blobs.DownloadStream(ctx, s.lake.name, s.lake.prefix()+f.path, nil)
		if err != nil {
			return err
		}
		h := sha256.New()
		buf := bytes.NewBuffer(make([]byte, 0, len(f.data)))
		_, err = buf.ReadFrom(r.Body)
		r.Body.Close()
		if err != nil {
			return err
		}
		h.Write(buf.Bytes())
		if sha256.Sum256(f.data) != [32]byte(h.Sum(nil)) {
			return fmt.Errorf("a file of %d bytes came back different", len(f.data))
		}
	}
	return nil
}

// listed counts the files below the lakehouse's Files folder.
func (s *Story) listed(ctx context.Context) (n int, err error) {
	fsys, err := s.engineer.FileSystem(s.lake.name)
	if err != nil {
		return 0, err
	}
	pager := fsys.NewListPathsPager(true, &filesystem.ListPathsOptions{Prefix: to.Ptr(path.Clean(s.lake.prefix()))})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return n, err
		}
		for _, p := range page.Paths {
			if p.IsDirectory == nil || !*p.IsDirectory {
				n++
			}
		}
	}
	return n, nil
}

func (s *Story) status(ctx context.Context) (sdk.EncryptionStatus, error) {
	return s.engineer.Fabric.Encryption(ctx, s.lake.workspace)
}

// assign puts the workspace under the customer's key.
func (s *Story) assign(ctx context.Context) error {
	s.Step("3", "The workspace's admin assigns the key")
	path := "/workspaces/" + s.lake.workspace + "/encryption/assign"
	err := s.engineer.Fabric.Call(ctx, "POST", path, map[string]string{"keyIdentifier": s.key.identifier + "/" + s.key.version}, nil)
	s.Claim(err != nil, "a key identifier with a version is refused: %v", err)
	begun := time.Now()
	if err := s.engineer.Fabric.Call(ctx, "POST", path, map[string]string{"keyIdentifier": s.key.identifier}, nil); err != nil {
		return fmt.Errorf("assigning the key: %w", err)
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	s.Claim(st.Detail.Status == "EnableInProgress" || st.Detail.Status == "Active", "status right after: %s", st.Detail.Status)
	err = s.wait(ctx, "Active")
	st, _ = s.status(ctx)
	s.Claim(err == nil && st.Detail.KeyIdentifier == s.key.identifier && st.Count("Active") == 2,
		"Active, with %d of 2 items Active, after %s: every byte and name was encrypted anew%s", st.Count("Active"),
		time.Since(begun).Round(time.Millisecond), because(err))
	err = s.readBack(ctx)
	s.Claim(err == nil, "every file reads back byte for byte%s", because(err))
	return nil
}

// wait watches the status with a progress bar until it is what is waited for.
func (s *Story) wait(ctx context.Context, status string) error {
	var bar *progressbar.ProgressBar
	if !s.Plain {
		bar = progressbar.NewOptions64(1, progressbar.OptionSetWriter(s.Out), progressbar.OptionSetDescription("   · In progress"),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
		defer bar.Finish()
	}
	return eventually(ctx, 2*time.Minute, func() (bool, error) {
		st, err := s.status(ctx)
		if err != nil {
			return false, err
		}
		if p := st.Progress; bar != nil && p != nil && p.TotalBytes > 0 {
			bar.ChangeMax64(p.TotalBytes)
			bar.Set64(p.Bytes)
		}
		if st.Detail.Status == "Failed" {
			return false, fmt.Errorf("the status is Failed")
		}
		return st.Detail.Status == status, nil
	})
}

// needles are what the disk must not show.
func (s *Story) needles() []needle {
	return needles(s.files, map[string]string{
		"the Lakehouse's name": s.lake.displayName,
		"metadata":             *s.lake.metadata["owner"],
		"the Notebook's text":  notebookText[:32],
	})
}

// searchDisk looks for the tenant's data in everything that the server keeps.
func (s *Story) searchDisk(context.Context) error {
	s.Step("4", "The disk is searched for what was uploaded")
	all := s.needles()
	all = slices.DeleteFunc(all, func(n needle) bool { return s.common[string(n.bytes)] })
	found, read, err := search(s.DataDir, all)
	if err != nil {
		return err
	}
	s.Claim(len(found) == 0, "%d pieces of content, names and metadata were looked for in %s (database, its log, extents, logs, audit): %d found %v",
		len(all), mebibytes(read), len(found), found)
	return nil
}

// An inventory is what the extents' folder holds: names, sizes and times.
type inventory struct {
	files int
	size  int64
	sum   [32]byte
}

func (s *Story) lakeBytes() (inv inventory, err error) {
	h := sha256.New()
	err = filepath.WalkDir(s.ExtentsDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		inv.files++
		inv.size += int64(len(data))
		fmt.Fprintf(h, "%s %x\n", p, sha256.Sum256(data))
		return err
	})
	inv.sum = [32]byte(h.Sum(nil))
	return inv, err
}

// reset puts the workspace back under platform-managed keys, and then shreds the
// Lakehouse.
func (s *Story) reset(ctx context.Context) error {
	s.Step("8", "The workspace goes back to platform-managed keys; then the Lakehouse is shredded")
	base := "/workspaces/" + s.lake.workspace
	if err := s.engineer.Fabric.Call(ctx, "POST", base+"/encryption/reset", nil, nil); err != nil {
		return fmt.Errorf("resetting: %w", err)
	}
	err := s.wait(ctx, "Disabled")
	s.Claim(err == nil, "status Disabled%s", because(err))
	if _, err := s.officer.Roles.Delete(ctx, s.keyScope(), s.key.assignment, nil); err != nil {
		return err
	}
	err = s.readBack(ctx)
	s.Claim(err == nil, "the grant is gone, and every file still reads back: the customer's key is no longer needed%s", because(err))
	if err := s.engineer.Fabric.Call(ctx, "DELETE", base+"/items/"+s.lake.id+"?hardDelete=true", nil, nil); err != nil {
		return fmt.Errorf("deleting the Lakehouse: %w", err)
	}
	err = s.readBack(ctx)
	s.Claim(err != nil, "the Lakehouse is deleted: its DEK is overwritten, and nothing of it opens again (%s)", code(err))
	return nil
}
