package deploytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A process is one of the deployment's servers.
type process struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed once it serves
	exited chan struct{}
	err    error // why it ended
}

// launch starts a server, and writes what it says to log, a line at a time.
func (p Plan) launch(env []string, args ...string) (*process, error) {
	c := p.command(env, args...)
	stderr, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	s := &process{cmd: c, ready: make(chan struct{}), exited: make(chan struct{})}
	go func() {
		var once sync.Once
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.Log.Write(append(lines.Bytes(), '\n'))
			if strings.Contains(lines.Text(), `"msg":"serving"`) {
				once.Do(func() { close(s.ready) })
			}
		}
		s.err = c.Wait()
		close(s.exited)
	}()
	return s, nil
}

// await waits until it serves, and fails if it ends before.
func (s *process) await() error {
	select {
	case <-s.ready:
		return nil
	case <-s.exited:
		return fmt.Errorf("a server has not started: %w", s.ended())
	case <-time.After(patience):
		s.cmd.Process.Kill()
		<-s.exited
		return errors.New("a server was not ready in time")
	}
}

// stop has it drain and end.
func (s *process) stop() error {
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
		return s.err
	case <-time.After(patience):
		s.cmd.Process.Kill()
		<-s.exited
		return errors.New("a server has not stopped")
	}
}

func (s *process) ended() error {
	if s.err == nil {
		return errors.New("it has ended by itself")
	}
	return s.err
}

// patience is how long a server may take to start or to stop beside others.
const patience = 2 * time.Minute

// command is the binary with arguments, in an environment of its own.
func (p Plan) command(env []string, args ...string) *exec.Cmd {
	c := exec.Command(p.Binary, args...)
	c.Env = append(append(os.Environ(), InsideEnv), env...)
	return c
}

// run runs a command of the binary to its end.
func (p Plan) run(env []string, stdin string, args ...string) error {
	c := p.command(env, args...)
	c.Stdin = strings.NewReader(stdin)
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("kluis %s: %w\n%s", strings.Join(args[:2], " "), err, said.String())
	}
	return nil
}

// lines serialises what several servers say.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
