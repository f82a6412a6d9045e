package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// copyright is what Debian wants to know of it, in its machine-readable form
// (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/). What the binary is
// linked from, under which licence each, is in the release's bills of materials.
const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: kluis
Source: https://github.com/kluis-io/kluis

Files: *
Copyright: The kluis authors
License: Apache-2.0
 The full text of this licence is in /usr/share/common-licenses/Apache-2.0.
`

// changelog returns Debian's list of changes, which sends its reader to the project's.
func (r release) changelog(b build) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(z, "kluis%s (%s) stable; urgency=medium\n\n  * See https://github.com/kluis-io/kluis/releases.\n\n -- The kluis maintainers <maintainers@kluis.io>  %s\n",
		b.flavour, r.version, r.epoch.Format(time.RFC1123Z))
	err = errors.Join(err, z.Close()) // which writes the most of it
	return out.Bytes(), err
}

// debian makes a Debian package with Debian's own tool.
func (r release) debian(ctx context.Context, b build) error {
	root, err := os.MkdirTemp("", "kluis-deb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	// Either flavour takes the other's place: both are /usr/bin/kluis.
	other := "Conflicts: kluis-fips\nReplaces: kluis-fips\n"
	if b.flavour != "" {
		other = "Provides: kluis\nConflicts: kluis\nReplaces: kluis\n"
	}
	control := fmt.Sprintf(`Package: kluis%s
Version: %s
Architecture: %s
Maintainer: The kluis maintainers <maintainers@kluis.io>
Section: admin
Priority: optional
%sHomepage: https://github.com/kluis-io/kluis
Description: data platform's data under keys that only the customer controls
 A vault with the Azure Key Vault keys API, and a platform with Fabric's and
 OneLake's, every byte encrypted under a key that the customer can revoke.
`, b.flavour, r.version, b.arch, other)
	doc := "usr/share/doc/kluis" + b.flavour + "/"
	write := func(name string, content []byte, mode fs.FileMode) error {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return errors.Join(os.WriteFile(path, content, mode), os.Chmod(path, mode))
	}
	changes, err := r.changelog(b)
	if err != nil {
		return err
	}
	err = errors.Join(write("DEBIAN/control", []byte(control), 0o644), write("DEBIAN/conffiles", []byte("/etc/kluis/kluis.yaml\n"), 0o644),
		write(doc+"copyright", []byte(copyright), 0o644), write(doc+"changelog.gz", changes, 0o644),
		write("usr/share/lintian/overrides/kluis"+b.flavour, []byte("# Go links so, and nothing of it is from Debian.\nkluis"+b.flavour+": statically-linked-binary [usr/bin/kluis]\n"), 0o644))
	for _, f := range []file{
		{"usr/bin/kluis", filepath.Join(r.out, b.name()), 0o755}, {"usr/lib/systemd/system/kluis.service", "deploy/kluis.service", 0o644},
		{"etc/kluis/kluis.yaml", "deploy/kluis.yaml", 0o644}, {doc + "configuration.md", "docs/configuration.md", 0o644},
	} {
		content, readErr := os.ReadFile(f.from)
		err = errors.Join(err, readErr, write(f.name, content, f.mode))
	}
	if err != nil {
		return err
	}
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return errors.Join(err, os.Chtimes(path, r.epoch, r.epoch))
	}); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, filepath.Join(r.out, fmt.Sprintf("kluis%s_%s_%s.deb", b.flavour, r.version, b.arch)))
	c.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.epoch.Unix()))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	return nil
}
