package cryptoki

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"time"
)

// A Process runs kluis-hsm as a child and starts it again when it dies, where
// nothing else watches over it.
type Process struct {
	Path string   // of kluis-hsm
	Args []string // its flags
	Env  []string // its environment; nil stands for this process's own
	Log  *slog.Logger
	// Output gets the helper's own log lines; nil drops them.
	Output io.Writer
	// Started, if set, is told each child's process id.
	Started func(pid int)
}

// How a child that dies is started again.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
	stopTime   = 10 * time.Second // for a child to finish what it has begun
	wrongUsage = 2                // its exit status if no restart can help
)

// Run returns when ctx ended and the child with it, or with an error if the child
// says that its flags are wrong. The child also ends when this process does.
func (p Process) Run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == wrongUsage {
			return fmt.Errorf("kluis-hsm: %w", err)
		}
		if time.Since(began) > time.Minute {
			pause = firstPause
		}
		p.Log.Warn("kluis-hsm ended", "error", err, "again", pause.String())
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (p Process) once(ctx context.Context) error {
	c := exec.Command(p.Path, append([]string{"--child"}, p.Args...)...)
	c.Env, c.Stderr = p.Env, p.Output
	c.WaitDelay = time.Second
	in, err := c.StdinPipe() // its end tells the child that this process has gone
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if p.Started != nil {
		p.Started(c.Process.Pid)
	}
	defer context.AfterFunc(ctx, func() {
		in.Close()
		time.AfterFunc(stopTime, func() { c.Process.Kill() })
	})()
	return c.Wait()
}
