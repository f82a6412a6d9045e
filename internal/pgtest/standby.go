package pgtest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Standby starts a server that follows s, which from then on answers a commit once the
// standby has flushed it.
func (s *Server) Standby() (*Server, error) {
	f := &Server{bin: s.bin, as: s.as}
	if err := f.makeFolder(); err != nil {
		return nil, err
	}
	err := f.program("pg_basebackup", "-D", f.data(), "-d", "host="+s.dir+" user=postgres application_name=standby", "-R", "-c", "fast", "--no-sync")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Restart(), f.endWithProcess()); err != nil {
		return nil, err
	}
	return f, s.Configure("synchronous_standby_names", "standby")
}

// Configure sets a parameter of the running server.
func (s *Server) Configure(name, value string) error {
	return errors.Join(s.Exec("postgres", "ALTER SYSTEM SET "+name+" = '"+value+"'"), s.Exec("postgres", "SELECT pg_reload_conf()"))
}

// Promote has a standby take writes.
func (s *Server) Promote() error { return s.program("pg_ctl", "promote", "-w", "-D", s.data()) }

// processes returns the ids of the server's processes, the one that begins the others first.
func (s *Server) processes() ([]int, error) {
	text, err := os.ReadFile(s.lock())
	if err != nil {
		return nil, err
	}
	master, _, _ := strings.Cut(string(text), "\n")
	id, err := strconv.Atoi(master)
	if err != nil {
		return nil, fmt.Errorf("process %q: %w", master, err)
	}
	all := []int{id}
	for pid, p := range running() {
		if p.parent == master {
			if id, err := strconv.Atoi(pid); err == nil {
				all = append(all, id)
			}
		}
	}
	return all, nil
}

// stop has every process of the server stand still, one that is just being begun too, and
// returns their ids.
func (s *Server) stop() (all map[int]bool, err error) {
	all = map[int]bool{}
	for still := false; !still; {
		found, err := s.processes()
		if err != nil {
			return nil, err
		}
		still = true // unless one is new, or runs on for a moment
		states := running()
		for _, pid := range found {
			syscall.Kill(pid, syscall.SIGSTOP) // one that has ended by itself needs none
			still = still && all[pid] && strings.Contains("TtZX", states[strconv.Itoa(pid)].state)
			all[pid] = true
		}
	}
	return all, nil
}

func (s *Server) lock() string { return filepath.Join(s.data(), "postmaster.pid") }

// Hang has every process of the server stand still: what it is sent arrives, and is not
// answered.
func (s *Server) Hang() error { _, err := s.stop(); return err }

// GoOn ends what Hang has begun.
func (s *Server) GoOn() error {
	all, err := s.processes()
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	return err
}

// Kill ends every process of the server at once: kill -9.
func (s *Server) Kill() error {
	all, err := s.stop()
	if err != nil {
		return err
	}
	for pid := range all {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for alive := true; alive; time.Sleep(5 * time.Millisecond) {
		alive = false
		states := running()
		for pid := range all {
			p, there := states[strconv.Itoa(pid)]
			alive = alive || there && p.state != "Z"
		}
	}
	// They name a process that nobody may have waited for.
	return errors.Join(os.Remove(s.lock()), os.Remove(filepath.Join(s.dir, ".s.PGSQL.5432.lock")))
}

type process struct{ state, parent string }

// running returns the machine's processes by their ids.
func running() map[string]process {
	all := map[string]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // after its name
		if fields := strings.Fields(rest); len(fields) > 1 {
			all[filepath.Base(filepath.Dir(path))] = process{fields[0], fields[1]}
		}
	}
	return all
}

// Either returns the connection string of a database of whichever server takes writes.
func Either(database string, servers ...*Server) string {
	var hosts []string
	for _, s := range servers {
		hosts = append(hosts, s.dir)
	}
	q := url.Values{"host": {strings.Join(hosts, ",")}, "user": {"postgres"}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"}}
	return "postgres:///" + database + "?" + q.Encode()
}
