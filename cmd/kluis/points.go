package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/objstore/local"
)

// Backups in one folder are points in time. Each is a file that is named by when it was
// begun; the platform's extents lie in the folder extents, once for all points.
const (
	pointFormat = "2006-01-02T15-04-05.000Z"
	pointSuffix = ".kluis.tar"
)

// A point is one backup of a folder.
type point struct {
	made time.Time
	path string
}

// newPoint returns where a backup that begins now goes.
func newPoint(dir string, now time.Time) string {
	return filepath.Join(dir, now.UTC().Format(pointFormat)+pointSuffix)
}

// pointTime returns when the point at a path was begun.
func pointTime(path string) (time.Time, error) {
	name, ok := strings.CutSuffix(filepath.Base(path), pointSuffix)
	if !ok {
		return time.Time{}, errors.New("no backup is named like that")
	}
	return time.Parse(pointFormat, name)
}

// pointsIn returns the points of a folder, in order.
func pointsIn(dir string) (all []point, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if made, err := pointTime(e.Name()); err == nil {
			all = append(all, point{made, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(all, func(a, b point) int { return a.made.Compare(b.made) })
	return all, err
}

// pointAt returns the newest backup at or before a time, or of all if it is zero. from is
// a folder of points, or one backup.
func pointAt(from string, at time.Time) (string, error) {
	info, err := os.Stat(from)
	switch {
	case err != nil:
		return "", err
	case !info.IsDir() && at.IsZero():
		return from, nil
	case !info.IsDir():
		return "", usageError{errors.New("--at chooses a point of a folder of backups, and --from names one backup")}
	}
	all, err := pointsIn(from)
	if err != nil {
		return "", err
	}
	if !at.IsZero() {
		all = slices.DeleteFunc(all, func(p point) bool { return p.made.After(at) })
	}
	if len(all) == 0 && !at.IsZero() {
		return "", fmt.Errorf("%s holds no backup of %s or before", from, when(at))
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%s holds no backup", from)
	}
	return all[len(all)-1].path, nil
}

// prune removes the points of a folder that are older than keep, but the newest, and the
// extents that no point left needs.
func prune(ctx context.Context, dir string, keep time.Duration, now time.Time) (removed int, err error) {
	all, err := pointsIn(dir)
	if err != nil {
		return 0, err
	}
	needed := map[string]bool{}
	for i, p := range all {
		if i < len(all)-1 && now.Sub(p.made) > keep {
			if err := os.Remove(p.path); err != nil {
				return removed, err
			}
			removed++
			continue
		}
		list, err := extentsOf(p.path)
		if err != nil {
			return removed, fmt.Errorf("%s: %w", p.path, err)
		}
		for _, e := range list {
			needed[string(e.id)] = true
		}
	}
	extents := filepath.Join(dir, extentsDir)
	if _, err := os.Stat(extents); errors.Is(err, fs.ErrNotExist) {
		return removed, nil
	}
	kept, err := local.Open(extents)
	if err != nil {
		return removed, err
	}
	return removed, kept.List(ctx, func(id string, _ time.Time) error {
		if needed[id] {
			return nil
		}
		return kept.Delete(ctx, id)
	})
}

// extentsOf returns the extents that a backup needs beside itself.
func extentsOf(path string) ([]listed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil, nil // of no platform
		}
		if err != nil {
			return nil, err
		}
		if h.Name == platformDir+"/"+extentsList {
			return readExtents(r)
		}
	}
}
