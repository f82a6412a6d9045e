package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// Check reads the whole database file and calls found with what is wrong with it:
// pages and indexes that do not hold together, values that no column may have, and
// rows that name a row which does not exist.
func (db *DB) Check(ctx context.Context, found func(text string)) error {
	return db.reading(ctx, func(c *conn) error {
		err := c.rows(ctx, `PRAGMA integrity_check`, func(scan func(...any) error) error {
			var text string
			err := scan(&text)
			if err == nil && text != "ok" {
				found(text)
			}
			return err
		})
		if err != nil {
			return c.Explain(err)
		}
		return c.Explain(c.rows(ctx, `PRAGMA foreign_key_check`, func(scan func(...any) error) error {
			var table, parent string
			var row, key sql.NullInt64
			err := scan(&table, &row, &parent, &key)
			if err == nil {
				found(fmt.Sprintf("Row %d of table %s names a row of table %s that does not exist.", row.Int64, table, parent))
			}
			return err
		}))
	})
}
