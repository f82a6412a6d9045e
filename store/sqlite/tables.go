package sqlite

import (
	"context"
	"fmt"
	"slices"

	"github.com/kluis-io/kluis/store"
)

// Tables returns the tables of the database, each after those that its rows name. They
// are the same on every engine whose migrations have come as far.
func (db *DB) Tables(ctx context.Context) (sorted []store.Table, err error) {
	err = db.readers.Lend(ctx, func(c *store.Conn) error {
		var left []store.Table
		parents := map[string][]string{}
		err := c.Once(ctx, `SELECT t.name, c.name, c.pk FROM sqlite_schema t, pragma_table_info(t.name) c
			WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND t.name NOT LIKE 'schema\_%' ESCAPE '\' AND t.name <> '`+store.OldestTable+`'
			ORDER BY t.name, c.cid`, nil, func(scan func(...any) error) error {
			var table, column string
			var key int
			if err := scan(&table, &column, &key); err != nil {
				return err
			}
			if n := len(left); n == 0 || left[n-1].Name != table {
				left = append(left, store.Table{Name: table})
			}
			t := &left[len(left)-1]
			t.Columns = append(t.Columns, column)
			if key > 0 { // its place in the key
				t.Key = append(t.Key, make([]string, max(0, key-len(t.Key)))...)
				t.Key[key-1] = column
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = c.Once(ctx, `SELECT t.name, f."table" FROM sqlite_schema t, pragma_foreign_key_list(t.name) f
			WHERE t.type = 'table' AND f."table" <> t.name`, nil, func(scan func(...any) error) error {
			var table, parent string
			err := scan(&table, &parent)
			parents[table] = append(parents[table], parent)
			return err
		})
		if err != nil {
			return err
		}
		for len(left) > 0 {
			free := slices.IndexFunc(left, func(t store.Table) bool {
				return !slices.ContainsFunc(left, func(o store.Table) bool { return slices.Contains(parents[t.Name], o.Name) })
			})
			if free < 0 {
				return fmt.Errorf("the tables from %s on name each other in a circle", left[0].Name)
			}
			if len(left[free].Key) == 0 {
				return fmt.Errorf("the table %s has no primary key", left[free].Name)
			}
			sorted = append(sorted, left[free])
			left = slices.Delete(left, free, free+1)
		}
		return nil
	})
	return sorted, err
}
