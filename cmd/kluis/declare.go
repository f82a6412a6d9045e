package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/witness"
)

// A declaration is what somebody answers for who has an older database served.
type declaration struct{ by, why string }

// maxDeclared bounds what a declaration says, in bytes.
const maxDeclared = 256

func (d declaration) check() error {
	for name, text := range map[string]string{"--by": d.by, "--why": d.why} {
		if strings.TrimSpace(text) == "" || len(text) > maxDeclared {
			return usageError{fmt.Errorf("%s takes a text of 1 to %d bytes for the audit log", name, maxDeclared)}
		}
	}
	return nil
}

func (d declaration) detail() map[string]string { return map[string]string{"by": d.by, "why": d.why} }

// operatingUser names who runs the command, as far as the machine knows.
func operatingUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// tellWitnesses has the witnesses of the parties that were restored from a backup go
// by what was restored, and reports whether all do. Where a root does not open yet, it
// says what is left to do.
func tellWitnesses(ctx context.Context, out io.Writer, c Config, m manifest) (told bool, err error) {
	lock, err := lockDir(c.Data)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	told = true
	for _, name := range allParties {
		if _, ok := m.Parties[name]; !ok || !rooted(name) {
			continue
		}
		p, err := c.openStopped(ctx, name)
		if err != nil {
			fmt.Fprintf(out, "the %s will not be served before its restore is declared, and its root did not open: %v\n"+
				"    When it opens ('kluis root recover'): kluis restore --declare --data %s --why ...\n", name, err, c.Data)
			told = false
			continue
		}
		if err := errors.Join(p.tellWitness(ctx, c), p.close()); err != nil {
			return false, err
		}
	}
	return told, nil
}

// tellWitness has the party's witness go by the checkpoint in its folder.
func (p *party) tellWitness(ctx context.Context, c Config) error {
	note, err := os.ReadFile(p.path(checkpointFile))
	if err != nil {
		return err
	}
	records, err := p.records(ctx, c)
	if err != nil {
		return err
	}
	w := witness.Begin(records, p.root, p.name)
	defer w.Close()
	return w.Store(ctx, note, nil) // whatever was there goes
}

// declareRestore declares, party by party, that a database which its witness refuses
// was restored. Without parties it does so for each that is refused.
func declareRestore(ctx context.Context, out io.Writer, c Config, parties []string, d declaration) error {
	lock, err := lockDir(c.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range parties {
		if _, ok := partySchemas[name]; !ok {
			return usageError{fmt.Errorf("no such party: %q; there are %s", name, strings.Join(allParties, ", "))}
		}
	}
	for _, name := range allParties {
		if len(parties) > 0 && !slices.Contains(parties, name) {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.Data, name, auditKeyFile)); errors.Is(err, fs.ErrNotExist) && len(parties) == 0 {
			continue // the directory has no such party
		}
		p, err := c.openStopped(ctx, name)
		if err != nil {
			return err
		}
		if err := p.declare(ctx, out, c, d, len(parties) > 0); err != nil {
			return fmt.Errorf("the %s: %w", name, err)
		}
	}
	return nil
}

// openStopped opens a party of a data directory that is not served, without its log.
func (c Config) openStopped(ctx context.Context, name string) (*party, error) {
	i, err := instanceOf(c.Data)
	if err != nil {
		return nil, err
	}
	c.Dev = i.Dev
	return openUnlogged(ctx, c, name)
}

// declare declares a party's restore if its witness refuses the database, or anyway.
func (p *party) declare(ctx context.Context, out io.Writer, c Config, d declaration, anyway bool) (err error) {
	defer func() { err = errors.Join(err, p.close()) }()
	if !anyway {
		err := p.openWitnessed(ctx, c, nil)
		if err == nil {
			fmt.Fprintf(out, "%s: not older than its witness, and nothing to declare\n", p.name)
			return nil
		}
		if fault.ReasonOf(err) != fault.Integrity {
			return err
		}
		fmt.Fprintf(out, "%s: %v\n", p.name, err)
		if p.witness != nil {
			p.witness.Close()
		}
	}
	log := audit.Config{Restored: true, Declared: d.detail()}
	if p.root != nil {
		records, err := p.records(ctx, c)
		if err != nil {
			return err
		}
		p.witness = witness.Begin(records, p.root, p.name)
		log.Witness, log.Declared["restore"] = p.witness, p.witness.Restore()
	}
	if err := p.openLog(ctx, log); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: the restore is declared by %s, and recorded\n", p.name, d.by)
	return nil
}
