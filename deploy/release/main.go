// Command release makes a release, in one folder: static binaries for two machines in
// two flavours, their tarballs, Debian packages, the container's definition, the Helm
// chart, bills of materials, and checksums of all of it. The same commit makes the same
// bytes wherever it is made: no path, time or name of the machine goes in.
package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// A build is one flavour for one machine.
type build struct {
	arch, flavour string // flavour is "" or "-fips"
}

func (b build) name() string { return "kluis-linux-" + b.arch + b.flavour }

// A release is what is made.
type release struct {
	out, version, toolchain string
	program                 string    // the package of the binary
	epoch                   time.Time // of every file in it
}

func main() {
	r := release{program: "./cmd/kluis"}
	flag.StringVar(&r.out, "out", "dist", "the folder to make; it must not exist")
	flag.StringVar(&r.version, "version", "0.0.0", "the version, such as 1.2.3")
	flag.StringVar(&r.toolchain, "toolchain", "", "the Go toolchain, such as go1.26.8 (default: the one that is there)")
	key := flag.String("key", "", "the file with the signer's key (32 bytes, in hexadecimal digits); without it nothing is signed")
	arches := flag.String("arch", "amd64,arm64", "the machines")
	flavours := flag.String("flavours", ",fips", "the flavours: empty is the ordinary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var builds []build
	for _, a := range strings.Split(*arches, ",") {
		for _, f := range strings.Split(*flavours, ",") {
			if f != "" {
				f = "-" + f
			}
			builds = append(builds, build{a, f})
		}
	}
	if err := r.make(ctx, builds, *key); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func (r release) make(ctx context.Context, builds []build, key string) error {
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return fmt.Errorf("making the folder: %w (give another with -out, or remove it)", err)
	}
	r.epoch = time.Unix(0, 0).UTC()
	if when, err := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI").Output(); err == nil {
		if at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(when))); err == nil {
			r.epoch = at.UTC()
		}
	}
	for _, b := range builds {
		fmt.Println("building", b.name())
		if err := r.build(ctx, b); err != nil {
			return err
		}
		if err := errors.Join(r.tarball(b), r.bills(b)); err != nil {
			return err
		}
		if err := r.debian(ctx, b); err != nil {
			return err
		}
	}
	if err := r.copy("Containerfile", "deploy/Containerfile", 0o644); err != nil {
		return err
	}
	if err := r.chart(); err != nil {
		return err
	}
	return r.sign(key)
}

// build builds a static binary.
func (r release) build(ctx context.Context, b build) error {
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X main.version="+r.version, "-o", filepath.Join(r.out, b.name()), r.program)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if r.toolchain != "" {
		c.Env = append(c.Env, "GOTOOLCHAIN="+r.toolchain)
	}
	if b.flavour == "-fips" {
		c.Env = append(c.Env, "GOFIPS140=v1.0.0") // FIPS mode is then on by default
	} else {
		c.Env = append(c.Env, "GOFIPS140=off")
	}
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// A file is one of an archive: its name there, where it lies, and its mode.
type file struct {
	name, from string
	mode       fs.FileMode
}

// tarball packs a binary with what a person needs beside it.
func (r release) tarball(b build) error {
	folder := "kluis-" + r.version + "/"
	return r.archive(b.name()+".tar.gz", []file{
		{folder + "LICENSE", "LICENSE", 0o644}, {folder + "README.md", "README.md", 0o644},
		{folder + "configuration.md", "docs/configuration.md", 0o644},
		{folder + "kluis", filepath.Join(r.out, b.name()), 0o755},
		{folder + "kluis.service", "deploy/kluis.service", 0o644}, {folder + "kluis.yaml", "deploy/kluis.yaml", 0o644},
	})
}

// chart packs the Helm chart as `helm package` would.
func (r release) chart() error {
	var files []file
	err := filepath.WalkDir("deploy/helm/kluis", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel("deploy/helm", path)
			files = append(files, file{name, path, 0o644})
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.archive("kluis-chart.tgz", files)
}

// archive writes files in their order, with nothing of this machine.
func (r release) archive(name string, files []file) (err error) {
	out, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		content, err := os.ReadFile(f.from)
		if err == nil && strings.HasSuffix(f.name, "Chart.yaml") {
			content = []byte(strings.ReplaceAll(string(content), "0.0.0", r.version))
		}
		if err == nil {
			err = t.WriteHeader(&tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(content)), ModTime: r.epoch, Format: tar.FormatPAX})
		}
		if err == nil {
			_, err = t.Write(content)
		}
		if err != nil {
			return errors.Join(err, out.Close())
		}
	}
	return errors.Join(t.Close(), z.Close(), out.Close())
}

func (r release) copy(name, from string, mode fs.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, name), b, mode)
}

// bills writes what a binary is made of, as the binary itself says.
func (r release) bills(b build) error {
	info, err := buildinfo.ReadFile(filepath.Join(r.out, b.name()))
	if err != nil {
		return err
	}
	return errors.Join(
		writeJSON(filepath.Join(r.out, b.name()+".cdx.json"), cycloneDX(b.name(), r.version, info, r.epoch)),
		writeJSON(filepath.Join(r.out, b.name()+".spdx.json"), spdx(b.name(), r.version, info, r.epoch)))
}
