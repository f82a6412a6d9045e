package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/local"
)

// extentsList is the file in a backup that lists the extents which its platform needs,
// one a line: id and length in bytes. The extents lie beside the backup, in the folder
// extents, and several backups share them.
const extentsList = "extents.list"

// extentsAtOnce is how many extents are copied at once: a store elsewhere takes its time
// to answer.
const extentsAtOnce = 8

// A listed is one line of the list.
type listed struct {
	id   lake.ExtentID
	size int64
}

// listExtents writes the list for a copied database, and returns it.
func listExtents(ctx context.Context, db *database, path string) (all []listed, err error) {
	var text strings.Builder
	err = lake.ObjectsNeeded(ctx, db.Lake(), func(id lake.ExtentID, size int64) error {
		all = append(all, listed{id, size})
		fmt.Fprintf(&text, "%s %d\n", id, size)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, os.WriteFile(path, []byte(text.String()), 0o600)
}

// readExtents reads a list, which anybody may have written.
func readExtents(r io.Reader) (all []listed, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		id, length, _ := strings.Cut(lines.Text(), " ")
		size, err := strconv.ParseInt(length, 10, 64)
		if _, notHex := hex.DecodeString(id); err != nil || notHex != nil || len(id) != 32 || size < 0 {
			return nil, fmt.Errorf("%s: line %d is none of a list of extents", extentsList, len(all)+1)
		}
		all = append(all, listed{lake.ExtentID(id), size})
	}
	return all, lines.Err()
}

// A missing is an extent that is not where it is copied from.
type missing struct{ id lake.ExtentID }

func (m missing) Error() string { return fmt.Sprintf("the listed %s is missing", m.id) }

// copyExtents copies what is not there yet, and returns how many bytes that was. It fails
// with [missing] for one that is nowhere.
func copyExtents(ctx context.Context, all []listed, from, to lake.Objects) (copied int64, err error) {
	var left []listed
	for _, e := range all {
		there, err := holds(ctx, to, e)
		if err != nil {
			return 0, err
		}
		if !there {
			left = append(left, e)
			copied += e.size
		}
	}
	add := func(int64) {}
	if copied > 0 && term.IsTerminal(int(os.Stderr.Fd())) {
		bar := progressbar.DefaultBytes(copied, "extents")
		defer bar.Finish()
		add = func(n int64) { bar.Add64(n) }
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(extentsAtOnce)
	for _, e := range left {
		group.Go(func() error {
			defer add(e.size)
			return copyExtent(ctx, e, from, to)
		})
	}
	return copied, group.Wait()
}

// holds reports whether an extent is in a store. One of another length is none: nothing
// is written halfway, so that somebody has changed it, and it is written again.
func holds(ctx context.Context, in lake.Objects, e listed) (bool, error) {
	object, err := in.Open(ctx, string(e.id))
	if fault.ReasonOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer object.Close()
	if object.Size() == e.size {
		return true, nil
	}
	return false, in.Delete(ctx, string(e.id))
}

func copyExtent(ctx context.Context, e listed, from, to lake.Objects) error {
	object, err := from.Open(ctx, string(e.id))
	if fault.ReasonOf(err) == fault.NotFound {
		return missing{e.id}
	}
	if err != nil {
		return err
	}
	defer object.Close()
	if object.Size() != e.size {
		return fmt.Errorf("the listed %s has %d bytes, and its row says %d", e.id, object.Size(), e.size)
	}
	w, err := to.Create(ctx, string(e.id))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, io.NewSectionReader(object, 0, e.size)); err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}

// snapshots bounds how often a platform's database is copied for one backup: extents that
// a re-encryption has destroyed meanwhile make another copy necessary.
const snapshots = 5

// copyPlatform copies the platform's database into the folder work, and the extents that
// the copy names to the folder extents beside the backups.
func copyPlatform(ctx context.Context, c Config, work, extents string) (m extentsManifest, err error) {
	from, err := c.objects(ctx, filepath.Join(c.Data, platformDir))
	if err != nil {
		return m, err
	}
	to, err := local.Open(extents)
	if err != nil {
		return m, err
	}
	for n := 1; ; n++ {
		if err := removeDatabase(filepath.Join(work, databaseFile)); err != nil {
			return m, err
		}
		all, err := copyRows(ctx, filepath.Join(c.Data, platformDir), work)
		if err != nil {
			return m, err
		}
		copied, err := copyExtents(ctx, all, from, to)
		m.Copied += copied
		var gone missing
		switch {
		case errors.As(err, &gone) && n < snapshots:
			continue
		case errors.As(err, &gone):
			return m, fault.Wrap(fault.Integrity, err, "Content of the platform is lost: "+gone.Error()+".").WithMend("Stop the server, and see what 'kluis fsck' says.")
		case err != nil:
			return m, err
		}
		for _, e := range all {
			m.Extents, m.Bytes = m.Extents+1, m.Bytes+e.size
		}
		return m, nil
	}
}

// copyRows copies the platform's database, and lists the extents that the copy names.
func copyRows(ctx context.Context, dir, work string) ([]listed, error) {
	path := filepath.Join(work, databaseFile)
	if err := copyDatabase(ctx, dir, path, partySchemas[platformDir]); err != nil {
		return nil, err
	}
	db, err := openFile(ctx, path, partySchemas[platformDir])
	if err != nil {
		return nil, err
	}
	all, err := listExtents(ctx, db, filepath.Join(work, extentsList))
	return all, errors.Join(err, db.Close())
}

// restoreExtents puts the extents of an unpacked platform where they are to lie.
func (c Config) restoreExtents(ctx context.Context, instance, work, extents string) error {
	list, err := os.Open(filepath.Join(work, extentsList))
	if err != nil {
		return err
	}
	defer list.Close()
	all, err := readExtents(list)
	if err != nil {
		return err
	}
	if _, err := os.Stat(extents); err != nil && len(all) > 0 {
		return fmt.Errorf("the extents lie in the folder %s beside the backup: %w", extents, err)
	}
	from, err := local.Open(extents)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.Data, platformDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to, err := c.claimObjects(ctx, dir, instance)
	if err != nil {
		return err
	}
	_, err = copyExtents(ctx, all, from, to)
	return err
}
