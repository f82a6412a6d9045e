package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Lazily are the options with which ext4 keeps back the most that it may: no flush by
// itself for ten minutes, none when a file is renamed over another, and no order between
// contents and names.
const Lazily = "commit=600,noauto_da_alloc,data=writeback"

// Mount mounts the ext4 file system in a file at a folder, by a loop device that goes with it.
func Mount(file, dir string) error {
	// Not os.Open, which would ask the file whether it can be polled: a question to
	// ourselves, if it is a Recorder's.
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/loop-control", Err: err}
	}
	defer unix.Close(control)
	// A device that is free may be taken by somebody else first, and one that is about to
	// be freed is not for a moment.
	for try := 0; ; try++ {
		if err = mount(control, fd, dir); !errors.Is(err, unix.EBUSY) || try == 500 {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func mount(control, fd int, dir string) error {
	n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("a free loop device: %w", err)
	}
	name := fmt.Sprint("/dev/loop", n)
	loop, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(loop)
	config := unix.LoopConfig{Fd: uint32(fd), Size: Block, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(loop, &config); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := unix.Mount(name, dir, "ext4", 0, Lazily); err != nil {
		return fmt.Errorf("mount %s: %w", name, err)
	}
	return nil
}

// Unmount undoes Mount, as soon as nobody uses a file there.
func Unmount(dir string) (err error) {
	for range 1000 {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		return &os.PathError{Op: "umount", Path: dir, Err: err}
	}
	return nil
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Detach takes away what is mounted at a folder, if anything is, whoever uses it.
func Detach(dir string) { unix.Unmount(dir, unix.MNT_DETACH) }
