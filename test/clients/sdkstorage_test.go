package clients_test

import (
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/directory"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"
	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/internal/sdk"
)

// Microsoft's modules for Go: the dialect of blobs, in which a folder is renamed by
// copies, and the dialect of paths.
func TestStorageGo(t *testing.T) {
	if !slow {
		t.Skip("SKIPPED: it moves 2,000 files twice; it runs in CI (CI=true)")
	}
	_, target := serve(t)
	furnish(t, target)
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	engineer, err := c.Engineer()
	if err != nil {
		t.Fatal(err)
	}
	local := plant(t)
	t.Run("azblob", func(t *testing.T) {
		carry(t, local, throughBlobs(t, engineer.Blobs, local, "lake.Lakehouse/Files/azblob/"))
	})
	fsys, err := engineer.FileSystem("clients")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("azdatalake", func(t *testing.T) { carry(t, local, throughPaths(t, fsys, local, "lake.Lakehouse/Files/azdatalake")) })
}

// each calls do with every name, for sixteen at a time.
func each[V any](t *testing.T, names map[string]V, do func(name string) error) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(16)
	for name := range names {
		group.Go(func() error { return do(name) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// create makes a file of the name below dir, with the folders above it.
func create(dir, name string) (*os.File, error) {
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return nil, err
	}
	return os.Create(to)
}

// throughBlobs is azblob at the blobs that begin with the prefix.
func throughBlobs(t *testing.T, client *azblob.Client, local tree, prefix string) remote {
	ctx := t.Context()
	workspace := client.ServiceClient().NewContainerClient("clients")
	list := func() map[string]int64 {
		t.Helper()
		sizes := map[string]int64{}
		pages := workspace.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix, MaxResults: to.Ptr(int32(300)), Include: container.ListBlobsInclude{Metadata: true}})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range page.Segment.BlobItems {
				if b.Metadata["hdi_isfolder"] == nil {
					sizes[(*b.Name)[len(prefix):]] = *b.Properties.ContentLength
				}
			}
		}
		return sizes
	}
	remove := func(name string) error {
		_, err := workspace.NewBlobClient(prefix+name).Delete(ctx, nil)
		return err
	}
	return remote{
		up: func(dir string) {
			each(t, local.sums, func(name string) error {
				f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = client.UploadFile(ctx, "clients", prefix+name, f, &azblob.UploadFileOptions{BlockSize: 1 << 20})
				return err
			})
		},
		list: list,
		read: func(name string, offset, count int) []byte {
			resp, err := client.DownloadStream(ctx, "clients", prefix+name, &azblob.DownloadStreamOptions{Range: azblob.HTTPRange{Offset: int64(offset), Count: int64(count)}})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		move: func(from, to string) {
			each(t, local.sums, func(name string) error {
				if path.Dir(name) != from {
					return nil
				}
				old := workspace.NewBlobClient(prefix + name)
				copied, err := workspace.NewBlobClient(prefix+to+"/"+path.Base(name)).StartCopyFromURL(ctx, old.URL(), nil)
				if err == nil && *copied.CopyStatus != blob.CopyStatusTypeSuccess {
					err = errors.New("a copy is " + string(*copied.CopyStatus))
				}
				if err != nil {
					return err
				}
				return remove(name)
			})
		},
		down: func(dir string) {
			each(t, list(), func(name string) error {
				f, err := create(dir, name)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = client.DownloadFile(ctx, "clients", prefix+name, f, &azblob.DownloadFileOptions{BlockSize: 1 << 20})
				return err
			})
		},
		remove: func() { each(t, list(), remove) },
	}
}

// throughPaths is azdatalake at a folder.
func throughPaths(t *testing.T, client *filesystem.Client, local tree, folder string) remote {
	ctx := t.Context()
	at := func(name string) *file.Client { return client.NewFileClient(folder + "/" + name) }
	list := func() map[string]int64 {
		t.Helper()
		sizes := map[string]int64{}
		pages := client.NewListPathsPager(true, &filesystem.ListPathsOptions{Prefix: to.Ptr(path.Dir(folder)), MaxResults: to.Ptr(int32(300))})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Paths {
				if rest, ok := strings.CutPrefix(*p.Name, folder+"/"); ok && (p.IsDirectory == nil || !*p.IsDirectory) {
					sizes[rest] = *p.ContentLength
				}
			}
		}
		return sizes
	}
	return remote{
		up: func(dir string) {
			each(t, local.sums, func(name string) error {
				f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := at(name).Create(ctx, nil); err != nil {
					return err
				}
				return at(name).UploadFile(ctx, f, &file.UploadFileOptions{ChunkSize: 1 << 20})
			})
		},
		list: list,
		read: func(name string, offset, count int) []byte {
			resp, err := at(name).DownloadStream(ctx, &file.DownloadStreamOptions{Range: &file.HTTPRange{Offset: int64(offset), Count: int64(count)}})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		move: func(from, to string) {
			if _, err := client.NewDirectoryClient(folder+"/"+path.Dir(to)).Create(ctx, nil); err != nil {
				t.Fatal(err)
			}
			_, err := client.NewDirectoryClient(folder+"/"+from).Rename(ctx, folder+"/"+to, nil)
			if err != nil {
				t.Fatal(err)
			}
		},
		down: func(dir string) {
			each(t, list(), func(name string) error {
				f, err := create(dir, name)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = at(name).DownloadFile(ctx, f, &file.DownloadFileOptions{ChunkSize: 1 << 20})
				return err
			})
		},
		remove: func() {
			if _, err := client.NewDirectoryClient(folder).Delete(ctx, &directory.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	}
}
