package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/internal/durable"
)

// folderIDFile is the file in a folder of backups that holds its id: the platform knows it
// by that, wherever it is mounted.
const folderIDFile = "folder.id"

// folderID returns the id of a folder of backups, which it gets if it has none.
func folderID(dir string) (string, error) {
	path := filepath.Join(dir, folderIDFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := strings.ToLower(rand.Text())
		return id, durable.WriteFile(path, []byte(id+"\n"), 0o600)
	}
	return strings.TrimSpace(string(text)), err
}

// A register keeps the platform's list of the points in a folder. Nil is that of a backup
// without the platform, and does nothing.
//
// A server may have the same database open. Only these rows are written beside it, which
// no process remembers.
type register struct {
	config  Config
	dir, id string
	mine    time.Time // when the point that is being made was begun
}

func (c Config) registerOf(dir string) (*register, error) {
	id, err := folderID(dir)
	return &register{config: c, dir: dir, id: id}, err
}

// begin tells of a point before there is any of it, so that a crash leaves none of which
// the platform does not know.
func (r *register) begin(ctx context.Context, to string) (err error) {
	if r == nil {
		return nil
	}
	if r.mine, err = pointTime(to); err != nil {
		return err
	}
	return r.tell(ctx, encryption.Backup{Made: r.mine, Begun: time.Now()})
}

// settle tells which points there are when a backup has been made, or has failed.
func (r *register) settle(ctx context.Context) error {
	if r == nil {
		return nil
	}
	return r.tell(ctx)
}

func (r *register) tell(ctx context.Context, all ...encryption.Backup) error {
	points, err := pointsIn(r.dir)
	if err != nil {
		return err
	}
	for _, p := range points {
		b := encryption.Backup{Made: p.made} // if the platform does not know of it, its rows are of any time
		if p.made.Equal(r.mine) {
			b.Ended = time.Now()
		}
		all = append(all, b)
	}
	return r.config.withPlatform(ctx, func(store encryption.Store) error {
		return encryption.RecordBackups(ctx, store, r.id, all)
	})
}

// withPlatform runs fn over the platform's database, which a server may have open.
func (c Config) withPlatform(ctx context.Context, fn func(encryption.Store) error) error {
	db, err := openAsIs(ctx, filepath.Join(c.Data, platformDir), partySchemas[platformDir])
	if err != nil {
		return err
	}
	return errors.Join(fn(db.Encryption()), db.Close())
}

func backupForget() *cobra.Command {
	var c Config
	cmd := &cobra.Command{
		Use:   "forget [FOLDER-ID]",
		Short: "List the folders of backups that the platform knows of, or have it forget one",
		Long: `List the folders of backups that the platform knows of; or have it forget one that is
lost, destroyed, or not to be restored any more. Key versions that only those backups
need are safe to disable from then on. Each folder's id is in its file folder.id. A
backup into the folder makes it known again, with all that is in it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if c, err = readConfig(cmd); err != nil {
				return err
			}
			return c.withPlatform(cmd.Context(), func(store encryption.Store) error {
				all, err := encryption.Backups(cmd.Context(), store)
				if err != nil {
					return err
				}
				folders := map[string][]encryption.Backup{}
				for _, b := range all {
					folders[b.Folder] = append(folders[b.Folder], b)
				}
				if len(args) > 0 {
					of := folders[args[0]]
					if of == nil {
						return fmt.Errorf("the platform knows of no folder %q: 'kluis backup forget' lists those that it does", args[0])
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%d backups were forgotten\n", len(of))
					return encryption.RecordBackups(cmd.Context(), store, args[0], nil)
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "FOLDER\tBACKUPS\tOLDEST\tNEWEST")
				for _, id := range slices.Sorted(maps.Keys(folders)) {
					of := folders[id]
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", id, len(of), when(of[0].Made), when(of[len(of)-1].Made))
				}
				return w.Flush()
			})
		},
	}
	hideServerFlags(cmd)
	return cmd
}
