package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/kluis-io/kluis/store"
)

// Check reads the whole database file and calls found with what is wrong with it:
// pages and indexes that do not hold together, values that no column may have, and
// rows that name a row which does not exist.
func (db *DB) Check(ctx context.Context, found func(text string)) error {
	return db.readers.Lend(ctx, func(c *store.Conn) error {
		err := c.Once(ctx, `PRAGMA integrity_check`, nil, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			if err == nil && text != "ok" {
				found(text)
			}
			return err
		})
		if err != nil {
			return err
		}
		return c.Once(ctx, `PRAGMA foreign_key_check`, nil, func(scan func(...any) error) error {
			var table, parent string
			var row, key sql.NullInt64
			err := scan(&table, &row, &parent, &key)
			if err == nil {
				found(fmt.Sprintf("Row %d of table %s names a row of table %s that does not exist.", row.Int64, table, parent))
			}
			return err
		})
	})
}
