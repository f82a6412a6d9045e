package pgtest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

func (s *Server) archive() string { return filepath.Join(s.dir, "archive") }

// Archive restarts the server as one that archives its write-ahead log into a folder.
func (s *Server) Archive() error {
	if err := os.Mkdir(s.archive(), 0o700); err != nil {
		return err
	}
	if s.as != nil {
		if err := os.Chown(s.archive(), int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	return errors.Join(
		s.Configure("archive_mode", "on"),
		s.Configure("archive_command", "test ! -f "+s.archive()+"/%f && cp %p "+s.archive()+"/%f"),
		s.Stop("fast"), s.Restart())
}

// BaseBackup copies the running server's cluster into a folder of its own, whose server is
// not started.
func (s *Server) BaseBackup() (*Server, error) {
	f := &Server{bin: s.bin, as: s.as}
	if err := f.makeFolder(); err != nil {
		return nil, err
	}
	return f, errors.Join(f.endWithProcess(), f.program("pg_basebackup", "-D", f.data(), "-d", "host="+s.dir+" user=postgres", "-c", "fast", "--no-sync"))
}

// Moment returns the server's time, as recovery_target_time takes it.
func (s *Server) Moment() (at string, err error) {
	return at, s.row("SELECT clock_timestamp()::text", &at)
}

// Archived returns once everything that was committed so far is in the archive.
func (s *Server) Archived() error {
	var segment string
	if err := s.row("SELECT pg_walfile_name(pg_switch_wal())", &segment); err != nil {
		return err
	}
	return patiently("the archive lacks "+segment, func() (bool, error) {
		_, err := os.Stat(filepath.Join(s.archive(), segment))
		return err == nil, nil
	})
}

// RecoverTo starts the server of a base backup, with all that the archive of another has
// up to a moment.
func (s *Server) RecoverTo(from *Server, moment string) error {
	settings, err := os.OpenFile(filepath.Join(s.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(settings, "archive_mode = off\nrestore_command = 'cp %s/%%f %%p'\nrecovery_target_time = '%s'\nrecovery_target_action = promote\n", from.archive(), moment)
	if err := errors.Join(err, settings.Close()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.data(), "recovery.signal"), nil, 0o644); err != nil {
		return err
	}
	if err := s.Restart(); err != nil {
		return err
	}
	return patiently("it does not take writes", func() (recovered bool, err error) {
		return recovered, s.row("SELECT NOT pg_is_in_recovery()", &recovered)
	})
}

func (s *Server) row(query string, into any) error {
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(db.QueryRow(query).Scan(into), db.Close())
}

// patiently waits until something is so.
func patiently(otherwise string, so func() (bool, error)) error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if ok, err := so(); err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New(otherwise)
		}
	}
}
