package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// A Table is one of a database's tables, as an engine's catalog describes it: those
// that say how far migrations have come are the engine's own, and none.
type Table struct {
	Name    string
	Columns []string
	Key     []string // columns of the primary key
}

// A Tally is what a table holds, in short: the same on every engine.
type Tally struct {
	Table string
	Rows  int64
	Sum   [sha256.Size]byte // over all values of all rows, in the order of the primary key
}

// transferPage is how many rows are read at once.
const transferPage = 256

// CopyTo puts what one snapshot of the tables holds into another database in place of
// what that one holds, in one transaction, and returns what it has written. The tables
// come with those before them that their rows name. each is told of rows as they are
// written; it may be nil.
func (d Domains) CopyTo(ctx context.Context, to Domains, tables []Table, each func(rows int)) (all []Tally, err error) {
	err = d.runner.View(ctx, func(from *Tx) error {
		return to.runner.Update(ctx, func(into *Tx) error {
			for _, t := range slices.Backward(tables) {
				if err := into.Exec("DELETE FROM " + quoted(t.Name)); err != nil {
					return err
				}
			}
			all = nil
			for _, t := range tables {
				written, err := from.walk(t, func(rows [][]any) error {
					err := into.insert("INSERT INTO "+quoted(t.Name)+" ("+quoted(t.Columns...)+") VALUES ", len(t.Columns), slices.Concat(rows...))
					if err == nil && each != nil {
						each(len(rows))
					}
					return err
				})
				if err != nil {
					return fmt.Errorf("the table %s: %w", t.Name, err)
				}
				all = append(all, written)
			}
			return nil
		})
	})
	return all, err
}

// Tallies returns what one snapshot of the tables holds.
func (d Domains) Tallies(ctx context.Context, tables []Table, each func(rows int)) (all []Tally, err error) {
	err = d.runner.View(ctx, func(from *Tx) error {
		for _, t := range tables {
			read, err := from.walk(t, func(rows [][]any) error {
				if each != nil {
					each(len(rows))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("the table %s: %w", t.Name, err)
			}
			all = append(all, read)
		}
		return nil
	})
	return all, err
}

// Rows returns how many rows the tables have together.
func (d Domains) Rows(ctx context.Context, tables []Table) (n int64, err error) {
	err = d.runner.View(ctx, func(t *Tx) error {
		for _, table := range tables {
			var rows int64
			if err := t.row("SELECT count(*) FROM "+quoted(table.Name), nil, &rows); err != nil {
				return err
			}
			n += rows
		}
		return nil
	})
	return n, err
}

// walk calls page with all rows of a table, some at a time, in the order of its key.
func (t *Tx) walk(table Table, page func(rows [][]any) error) (Tally, error) {
	tally, sum := Tally{Table: table.Name}, sha256.New()
	key := make([]int, len(table.Key))
	for i, name := range table.Key {
		key[i] = slices.Index(table.Columns, name)
	}
	first := "SELECT " + quoted(table.Columns...) + " FROM " + quoted(table.Name)
	order := fmt.Sprintf(" ORDER BY %s LIMIT %d", quoted(table.Key...), transferPage)
	next := first + " WHERE (" + quoted(table.Key...) + ") > " + tuples(1, len(key)) + order
	query, args := first+order, []any(nil)
	for {
		var rows [][]any
		err := t.rows(query, args, func(scan func(...any) error) error {
			row, into := make([]any, len(table.Columns)), make([]any, len(table.Columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := scan(into...); err != nil {
				return err
			}
			rows = append(rows, row)
			return addRow(sum, row)
		})
		if err == nil && len(rows) > 0 {
			tally.Rows += int64(len(rows))
			err = page(rows)
		}
		if err != nil {
			return tally, err
		}
		if len(rows) < transferPage {
			sum.Sum(tally.Sum[:0])
			return tally, nil
		}
		query, args = next, make([]any, len(key))
		for i, at := range key {
			args[i] = rows[len(rows)-1][at]
		}
	}
}

// addRow adds a row's values, each with its type and length, to a sum. An empty value
// that a driver returns as nothing is made one that no driver takes for NULL.
func addRow(sum hash.Hash, row []any) error {
	for i, value := range row {
		var text []byte
		kind := byte('t')
		switch v := value.(type) {
		case nil:
			kind = 'n'
		case int64:
			kind, text = 'i', binary.BigEndian.AppendUint64(nil, uint64(v))
		case string:
			text = []byte(v)
		case []byte:
			if v == nil {
				v = []byte{}
				row[i] = v
			}
			kind, text = 'b', v
		default:
			return fmt.Errorf("a value is of the type %T, which no table has", value)
		}
		sum.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(text))))
		sum.Write(text)
	}
	return nil
}

// quoted returns names as SQL writes them, in a list.
func quoted(names ...string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = `"` + n + `"`
	}
	return strings.Join(all, ", ")
}

// SameLog reports whether the audit log in a database begins with the one in another,
// entry for entry where they end: that other one is then an older state of the same, or
// empty.
func (d Domains) SameLog(ctx context.Context, older Domains) (same bool, err error) {
	last := func(of Domains, at int64) (size int64, body []byte, err error) {
		err = of.runner.View(ctx, func(t *Tx) error {
			if size, err = t.AuditSize(); err != nil {
				return err
			}
			if at < 0 {
				at = size - 1
			}
			if at < 0 || at >= size {
				return nil
			}
			records, err := t.AuditRecords(at, 1)
			if err == nil && len(records) == 1 {
				body = records[0].Body
			}
			return err
		})
		return size, body, err
	}
	size, body, err := last(older, -1)
	if err != nil || size == 0 {
		return err == nil, err
	}
	whole, there, err := last(d, size-1)
	return whole >= size && bytes.Equal(body, there), err
}
