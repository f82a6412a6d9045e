package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/kluis-io/kluis/store"
)

// CheckAddress checks that a connection string can be read. The error does not quote it:
// it may hold a password.
func CheckAddress(address string) error {
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return errors.New("the connection string cannot be read: it is postgres://ROLE@HOST/DATABASE, or 'host=… dbname=… user=…'")
	}
	if c.Database == "" {
		return errors.New("the connection string names no database")
	}
	return nil
}

// Check calls found with what the server's catalog says is wrong with the database:
// constraints that were never validated, and indexes that were not built to their end.
func (db *DB) Check(ctx context.Context, found func(text string)) error {
	return db.readers.Lend(ctx, func(c *store.Conn) error {
		return c.Once(ctx, `SELECT 'constraint ' || conname FROM pg_constraint WHERE NOT convalidated AND connamespace = current_schema()::regnamespace
			UNION ALL SELECT 'index ' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
			WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = current_schema()::regnamespace ORDER BY 1`, nil,
			func(scan func(...any) error) error {
				var what string
				err := scan(&what)
				if err == nil {
					found(fmt.Sprintf("The %s does not hold for all rows.", what))
				}
				return err
			})
	})
}
