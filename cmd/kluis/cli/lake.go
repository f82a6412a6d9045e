package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/file"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/filesystem"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/internal/sdk"
)

func lakeCommand() *cobra.Command {
	return group("lake", "List, copy and remove files, as an engineer", "engineer", lakeList, lakeCopy, lakeRemove, lakeStat, lakeScrub)
}

// scheme begins a path in the lake on the command line: kluis://WORKSPACE/ITEM.TYPE/…
const scheme = "kluis://"

// A place is a path in the lake.
type place struct{ workspace, path string }

func parsePlace(s string) (place, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	workspace, p, _ := strings.Cut(rest, "/")
	if !ok || workspace == "" {
		return place{}, usage("a path in the lake is written kluis://WORKSPACE/ITEM.TYPE/Files/…, not %q", s)
	}
	return place{workspace, strings.Trim(p, "/")}, nil
}

func (s *session) at(arg string) (*sdk.Engineer, *filesystem.Client, place, error) {
	p, err := parsePlace(arg)
	if err != nil {
		return nil, nil, p, err
	}
	e, err := s.engineer()
	if err != nil {
		return nil, nil, p, err
	}
	fsys, err := e.FileSystem(p.workspace)
	return e, fsys, p, err
}

// list calls each with what lies below a place.
func list(ctx context.Context, fsys *filesystem.Client, p place, recursive bool, each func(*filesystem.Path) error) error {
	o := &filesystem.ListPathsOptions{}
	if p.path != "" {
		o.Prefix = &p.path
	}
	for pager := fsys.NewListPathsPager(recursive, o); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, entry := range page.Paths {
			if err := each(entry); err != nil {
				return err
			}
		}
	}
	return nil
}

func lakeList(s *session) *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use:   "ls kluis://WORKSPACE/PATH",
		Short: "List a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, fsys, p, err := s.at(args[0])
			if err != nil {
				return err
			}
			all, rows := []*filesystem.Path{}, [][]string(nil)
			err = list(cmd.Context(), fsys, p, recursive, func(e *filesystem.Path) error {
				all = append(all, e)
				size := bytes(value(e.ContentLength))
				if value(e.IsDirectory) {
					size = "-"
				}
				rows = append(rows, []string{*e.Name, size, value(e.LastModified)})
				return nil
			})
			if err != nil {
				return err
			}
			return s.show(all, "PATH,SIZE,MODIFIED", rows)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "and all below it")
	return c
}

func lakeStat(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "stat kluis://WORKSPACE/PATH",
		Short: "Show a file's properties",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, fsys, p, err := s.at(args[0])
			if err != nil {
				return err
			}
			r, err := fsys.NewFileClient(p.path).GetProperties(cmd.Context(), nil)
			if err != nil {
				return err
			}
			return s.show(r, "PATH,SIZE,MODIFIED,ETAG,TYPE", [][]string{{
				p.path, bytes(value(r.ContentLength)), when(r.LastModified), string(value(r.ETag)), value(r.ContentType),
			}})
		},
	}
}

func lakeRemove(s *session) *cobra.Command {
	var recursive bool
	c := &cobra.Command{
		Use:   "rm kluis://WORKSPACE/PATH",
		Short: "Remove a file, or a folder with -r",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, fsys, p, err := s.at(args[0])
			if err != nil {
				return err
			}
			if recursive {
				if err := s.confirm("All below "+p.path+" is removed.", path.Base(p.path)); err != nil {
					return err
				}
				_, err = fsys.NewDirectoryClient(p.path).Delete(cmd.Context(), nil)
			} else {
				_, err = fsys.NewFileClient(p.path).Delete(cmd.Context(), nil)
			}
			if err != nil {
				return err
			}
			return s.done("%s is removed.", args[0])
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a folder and all below it")
	s.confirmFlag(c)
	return c
}

func lakeCopy(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "cp FROM TO",
		Short: "Copy files or folders into the lake or out of it",
		Long: `Copy files or folders into the lake or out of it. One of FROM and TO is a path in
the lake, kluis://WORKSPACE/ITEM.TYPE/Files/…, and the other one on this machine.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			up, down := strings.HasPrefix(args[1], scheme), strings.HasPrefix(args[0], scheme)
			switch {
			case up == down:
				return usage("one of FROM and TO lies in the lake, and the other one on this machine")
			case up:
				return s.upload(cmd.Context(), args[0], args[1])
			}
			return s.download(cmd.Context(), args[0], args[1])
		},
	}
}

func (s *session) bar(total int64, what string) *progressbar.ProgressBar {
	o := []progressbar.Option{progressbar.OptionSetWriter(s.errOut), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish()}
	if f, ok := s.errOut.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		o = append(o, progressbar.OptionSetVisibility(false))
	}
	return progressbar.NewOptions64(total, o...)
}

func (s *session) upload(ctx context.Context, from, to string) error {
	e, _, p, err := s.at(to)
	if err != nil {
		return err
	}
	type one struct {
		local, remote string
		size          int64
	}
	var files []one
	var total int64
	err = filepath.WalkDir(from, func(local string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, local)
		if err != nil {
			return err
		}
		remote := p.path
		if rel != "." {
			remote = path.Join(p.path, filepath.ToSlash(rel))
		} else if strings.HasSuffix(to, "/") {
			remote = path.Join(p.path, filepath.Base(local))
		}
		files = append(files, one{local, remote, info.Size()})
		total += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	bar := s.bar(total, "Copying")
	for _, f := range files {
		r, err := os.Open(f.local)
		if err != nil {
			return err
		}
		_, err = e.Blobs.UploadFile(ctx, p.workspace, f.remote, r, nil)
		r.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", f.local, Explain(err))
		}
		bar.Add64(f.size)
	}
	bar.Finish()
	return s.done("Copied %d files, %s.", len(files), bytes(total))
}

func (s *session) download(ctx context.Context, from, target string) error {
	_, fsys, p, err := s.at(from)
	if err != nil {
		return err
	}
	props, err := fsys.NewFileClient(p.path).GetProperties(ctx, nil)
	if err != nil {
		return err
	}
	type one struct {
		remote, local string
		size          int64
	}
	var files []one
	var total int64
	if value(props.ResourceType) == "directory" {
		err = list(ctx, fsys, p, true, func(entry *filesystem.Path) error {
			if !value(entry.IsDirectory) {
				rel := strings.TrimPrefix(strings.TrimPrefix(*entry.Name, p.path), "/")
				if !filepath.IsLocal(filepath.FromSlash(rel)) {
					return fmt.Errorf("%s: the name does not fit a file on this machine", *entry.Name)
				}
				files = append(files, one{*entry.Name, filepath.Join(target, filepath.FromSlash(rel)), value(entry.ContentLength)})
				total += value(entry.ContentLength)
			}
			return nil
		})
		if err != nil {
			return err
		}
	} else {
		local := target
		if info, err := os.Stat(target); err == nil && info.IsDir() {
			local = filepath.Join(target, path.Base(p.path))
		}
		files, total = []one{{p.path, local, value(props.ContentLength)}}, value(props.ContentLength)
	}
	bar := s.bar(total, "Copying")
	for _, f := range files {
		if err := fetch(ctx, fsys, f.remote, f.local, f.size); err != nil {
			return fmt.Errorf("%s: %w", f.remote, Explain(err))
		}
		bar.Add64(f.size)
	}
	bar.Finish()
	return s.done("Copied %d files, %s.", len(files), bytes(total))
}

// fetch downloads one file; one that breaks off leaves nothing behind.
func fetch(ctx context.Context, fsys *filesystem.Client, remote, local string, size int64) error {
	if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(local), ".kluis-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if size > 0 {
		_, err = fsys.NewFileClient(remote).DownloadFile(ctx, f, &file.DownloadFileOptions{Concurrency: 4})
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), local)
}
