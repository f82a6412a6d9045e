package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/kluis-io/kluis/store"
)

// Check reads the whole database and calls found with what is wrong with it: constraints
// and indexes that do not hold for all rows, rows that name a row which does not exist,
// and, where the extension amcheck is there, pages that do not hold together.
func (db *DB) Check(ctx context.Context, found func(text string)) error {
	return db.readers.Lend(ctx, func(c *store.Conn) error {
		c.Unfit() // since it may take as long as it takes
		if err := c.Exec("SET statement_timeout = 0"); err != nil {
			return err
		}
		for _, check := range []func(context.Context, *store.Conn, func(string)) error{checkCatalog, checkReferences, checkPages} {
			if err := check(ctx, c, found); err != nil {
				return err
			}
		}
		return nil
	})
}

// texts returns the rows of a query of one column.
func texts(ctx context.Context, c *store.Conn, query string, args ...any) (all []string, err error) {
	err = c.Once(ctx, query, args, func(scan func(...any) error) error {
		var text string
		err := scan(&text)
		all = append(all, text)
		return err
	})
	return all, err
}

func checkCatalog(ctx context.Context, c *store.Conn, found func(string)) error {
	all, err := texts(ctx, c, `SELECT 'constraint ' || conname FROM pg_constraint WHERE NOT convalidated AND connamespace = current_schema()::regnamespace
		UNION ALL SELECT 'index ' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE NOT (i.indisvalid AND i.indisready) AND c.relnamespace = current_schema()::regnamespace ORDER BY 1`)
	for _, what := range all {
		found(fmt.Sprintf("The %s does not hold for all rows.", what))
	}
	return err
}

// checkReferences asks for each foreign key whether its rows are there: somebody may have
// written with the server's checks switched off.
func checkReferences(ctx context.Context, c *store.Conn, found func(string)) error {
	type reference struct{ child, parent, query string }
	var all []reference
	err := c.Once(ctx, `SELECT k.conrelid::regclass::text, k.confrelid::regclass::text,
			string_agg('c.' || quote_ident(a.attname) || ' IS NOT NULL', ' AND '),
			string_agg('p.' || quote_ident(b.attname) || ' = c.' || quote_ident(a.attname), ' AND ')
		FROM pg_constraint k, unnest(k.conkey, k.confkey) AS pair (child, parent), pg_attribute a, pg_attribute b
		WHERE k.contype = 'f' AND k.connamespace = current_schema()::regnamespace
			AND a.attrelid = k.conrelid AND a.attnum = pair.child AND b.attrelid = k.confrelid AND b.attnum = pair.parent
		GROUP BY k.oid, k.conrelid, k.confrelid ORDER BY 1, 2`, nil, func(scan func(...any) error) error {
		var r reference
		var given, same string
		err := scan(&r.child, &r.parent, &given, &same)
		r.query = fmt.Sprintf("SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)", r.child, given, r.parent, same)
		all = append(all, r)
		return err
	})
	for _, r := range all {
		var rows int64
		if err == nil {
			err = c.Row(r.query, nil, &rows)
		}
		if rows > 0 {
			found(fmt.Sprintf("%d rows of table %s name rows of table %s that do not exist.", rows, r.child, r.parent))
		}
	}
	return err
}

// checkPages has amcheck read tables and indexes, if the database has it and its role may.
func checkPages(ctx context.Context, c *store.Conn, found func(string)) error {
	var schema string
	err := c.Row(`SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'`, nil, &schema)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	indexes, err := texts(ctx, c, `SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace ORDER BY 1`)
	if err != nil {
		return err
	}
	tables, err := texts(ctx, c, `SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY 1`)
	if err != nil {
		return err
	}
	for _, index := range indexes {
		_, err := texts(ctx, c, "SELECT "+schema+".bt_index_check($1::text::regclass, true)::text", index)
		var said *pgconn.PgError
		switch {
		case err == nil:
		case errors.As(err, &said) && strings.HasPrefix(said.Code, "XX"):
			found(fmt.Sprintf("The index %s does not hold together: %s.", index, said.Message))
		case denied(err): // the server's administrator checks
			return nil
		default:
			return err
		}
	}
	for _, table := range tables {
		all, err := texts(ctx, c, "SELECT msg FROM "+schema+".verify_heapam($1::text::regclass)", table)
		if denied(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, text := range all {
			found(fmt.Sprintf("The table %s does not hold together: %s.", table, text))
		}
	}
	return nil
}

// denied reports whether err says that the role may not.
func denied(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == "42501"
}
