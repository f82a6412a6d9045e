// Package powercut keeps a record of what reaches block devices, and makes of it what a
// power cut at any moment leaves of them.
//
// A file system on a loop device lies in a file that a Recorder serves by FUSE: every write
// and every flush that the kernel sends to the device passes it, in order. A Replay then
// holds what was flushed before any moment of the record, and of what was written since it
// keeps whatever a caller chooses, as a disk does that loses its cache. One run so gives
// as many cuts as one has time to look at, and who has noted where the record stood when
// something was promised knows what each cut must have left.
//
// It owns the record and the loop devices; what is to be there after a cut its callers know.
// It needs root, loop devices and FUSE.
package powercut

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// An Event is what reached a device: a write, or a flush of all writes before it.
type Event struct {
	Device int
	Flush  bool
	Offset int64 // in bytes; of a write
	Data   []byte
}

// A Recorder serves files in memory as the content of devices, and keeps what reaches them.
type Recorder struct {
	dir    string
	server *fuse.Server

	mu      sync.Mutex
	devices [][]byte
	events  []Event
}

// NewRecorder serves files of these sizes, in bytes, all zeros, in a folder that is there.
func NewRecorder(dir string, sizes ...int64) (*Recorder, error) {
	r := &Recorder{dir: dir}
	root := &fs.Inode{}
	for _, n := range sizes {
		r.devices = append(r.devices, make([]byte, n))
	}
	var err error
	r.server, err = fs.Mount(dir, root, &fs.Options{
		OnAdd: func(ctx context.Context) {
			for i := range r.devices {
				root.AddChild(strconv.Itoa(i), root.NewPersistentInode(ctx, &device{recorder: r, number: i}, fs.StableAttr{Mode: fuse.S_IFREG}), false)
			}
		},
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 1 << 20, FsName: "powercut", DisableXAttrs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("FUSE: %w", err)
	}
	return r, nil
}

// File is the path of a device's content, of which nothing is cached.
func (r *Recorder) File(device int) string { return filepath.Join(r.dir, strconv.Itoa(device)) }

// Now is how many events there have been. What is promised after a call of Now, and what
// the events before it have made, holds at every cut at that number or later.
func (r *Recorder) Now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// Images are copies of what the devices hold.
func (r *Recorder) Images() (images [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.devices {
		images = append(images, bytes.Clone(d))
	}
	return images
}

// Begin puts images into the devices, none of which may be in use, and forgets all events.
func (r *Recorder) Begin(images [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, d := range r.devices {
		copy(d, images[i])
	}
	r.events = nil
}

// Events are what has reached the devices since Begin. They are not to be changed.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[:len(r.events):len(r.events)]
}

// Close ends it. No device may be in use.
func (r *Recorder) Close() error { return r.server.Unmount() }

// A device is the file of one.
type device struct {
	fs.Inode
	recorder *Recorder
	number   int
}

var (
	_ fs.NodeGetattrer = (*device)(nil)
	_ fs.NodeOpener    = (*device)(nil)
	_ fs.NodeReader    = (*device)(nil)
	_ fs.NodeWriter    = (*device)(nil)
	_ fs.NodeFsyncer   = (*device)(nil)
)

func (d *device) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(len(d.recorder.devices[d.number]))
	return 0
}

// Open lets the kernel cache nothing: whatever is written comes here at once.
func (d *device) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *device) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	r := d.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	content := r.devices[d.number]
	if off >= int64(len(content)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, content[off:])]), 0
}

func (d *device) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	r := d.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	content := r.devices[d.number]
	if off+int64(len(data)) > int64(len(content)) {
		return 0, syscall.ENOSPC
	}
	copy(content[off:], data)
	r.events = append(r.events, Event{Device: d.number, Offset: off, Data: bytes.Clone(data)})
	return uint32(len(data)), 0
}

func (d *device) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r := d.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, Event{Device: d.number, Flush: true})
	return 0
}

// Format makes an ext4 file system in a file of a Recorder's.
func Format(ctx context.Context, file string) error {
	return command(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0", file)
}
