package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// ErrConstraint is what an engine wraps the violation of a uniqueness or foreign
// key constraint in.
var ErrConstraint = errors.New("a constraint is violated")

func isConstraint(err error) bool { return errors.Is(err, ErrConstraint) }

// A Tx is one transaction: every domain's. Its methods are in the files of the
// domains.
type Tx struct {
	ctx     context.Context // of the caller, who may have gone; see running
	conn    *Conn           // nil until a read transaction needs one
	group   *group          // that it commits with; nil of one that only reads
	shreds  Shreds          // what the transaction overwrites must leave the disk
	asked   int             // statements sent
	reading bool            // the rows of a query are being read

	readers  *Readers  // of a read transaction: where its connection comes from
	recalled *recalled // of one that recalls; nil of any other
}

// Exec runs a statement of an engine's own.
func (t *Tx) Exec(query string, args ...any) error {
	_, err := t.exec(query, args...)
	return err
}

// Row runs a query of an engine's own for one row, and scans it; it returns
// [sql.ErrNoRows] if there is none.
func (t *Tx) Row(query string, args []any, into ...any) error { return t.row(query, args, into...) }

// Now returns the time by the database's clock, which all processes share.
func (t *Tx) Now() (time.Time, error) {
	query := ""
	if t.conn != nil {
		query = t.conn.clock
	} else if t.readers != nil {
		query = t.readers.clock
	}
	if query == "" {
		return time.Now(), nil
	}
	var us int64
	err := t.row(query, nil, &us)
	return time.UnixMicro(us).UTC(), err
}

// running returns the context of one statement, which is never ended by ctx: to be
// able to, SQLite's driver and database/sql start a goroutine each for every
// statement, and that costs as much as what most of ours do. Whoever has gone is
// noticed before the next statement or row instead.
func (t *Tx) running() context.Context { return context.WithoutCancel(t.ctx) }

func (t *Tx) gone() error {
	if err := t.ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err, "The request ended before the database was read.")
	}
	return nil
}

// statement returns the statement of a query that is about to run.
func (t *Tx) statement(query string) (*sql.Stmt, error) {
	if t.reading {
		return nil, errors.New("a query while the rows of another are read: not every database can")
	}
	err := t.gone()
	if err == nil && t.conn == nil {
		err = t.beginReading()
	}
	if err != nil {
		return nil, err
	}
	t.asked++
	return t.conn.prepare(query)
}

// exec runs a statement and returns how many rows it touched.
func (t *Tx) exec(query string, args ...any) (int64, error) {
	t.changedAll(written(query))
	return t.execRow(nil, query, args...)
}

// execRow is exec for a statement that changes only the remembered rows that the
// keys name.
func (t *Tx) execRow(keys []rowKey, query string, args ...any) (int64, error) {
	t.changed(keys...)
	s, err := t.statement(query)
	if err == nil && t.group != nil {
		err = t.group.begin()
	}
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(t.running(), portable(args)...)
	if err != nil {
		return 0, t.conn.explain(err)
	}
	return r.RowsAffected()
}

// row runs a query for one row and scans it; it returns [sql.ErrNoRows] if there
// is none.
func (t *Tx) row(query string, args []any, into ...any) error {
	s, err := t.statement(query)
	if err != nil {
		return err
	}
	err = s.QueryRowContext(t.running(), portable(args)...).Scan(into...)
	if moved := t.pin(); moved != nil {
		return moved
	}
	return t.conn.explain(err)
}

// rows runs a query and calls each once a row; scan reads the row's columns. each
// must not ask the transaction anything.
func (t *Tx) rows(query string, args []any, each func(scan func(into ...any) error) error) error {
	s, err := t.statement(query)
	if err != nil {
		return err
	}
	rs, err := s.QueryContext(t.running(), portable(args)...)
	if err != nil {
		return t.conn.explain(err)
	}
	t.reading = true
	defer func() {
		t.reading = false
		rs.Close()
	}()
	for rs.Next() {
		if err := errors.Join(t.pin(), t.gone()); err != nil {
			return err
		}
		if err := each(rs.Scan); err != nil {
			return err
		}
	}
	if err := rs.Err(); err != nil {
		return t.conn.explain(err)
	}
	return t.pin()
}

// What processes tell each other of: see [Tx.tell].
const (
	ScopeNews = "scope" // a scope's row has changed
	VaultNews = "vault" // a vault's feed has
)

// tell has the other processes told, once the transaction is committed, that something
// about a thing has changed. It is a hint to look: an engine may not be able to, and whoever
// does not listen just then is not told later.
func (t *Tx) tell(about, id string) error {
	if t.conn == nil || t.conn.tells == "" {
		return nil
	}
	_, err := t.execRow(nil, t.conn.tells, about, id)
	return err
}

// portable puts 0 and 1 for truth values, which the tables keep as integers.
func portable(args []any) []any {
	for i, a := range args {
		if b, ok := a.(bool); ok {
			args[i] = int64(0)
			if b {
				args[i] = int64(1)
			}
		}
	}
	return args
}

// nth returns the placeholder of a query's nth argument, counted from 1.
func nth(n int) string { return "$" + strconv.Itoa(n) }

// maxInsert is the most rows that one statement inserts.
const maxInsert = 64

// insert inserts rows of a width, given as one list of their values, in few
// statements. Those take a power of two of rows, so that there are few to prepare.
func (t *Tx) insert(into string, width int, values []any) error {
	for n := maxInsert; len(values) > 0; {
		if len(values) < n*width {
			n /= 2
			continue
		}
		if _, err := t.exec(into+tuples(n, width), values[:n*width]...); err != nil {
			return err
		}
		values = values[n*width:]
	}
	return nil
}

// tuples returns the placeholders of n rows of a width.
func tuples(n, width int) string {
	b := make([]byte, 0, n*width*6)
	for i := range n * width {
		switch {
		case i == 0:
			b = append(b, '(')
		case i%width == 0:
			b = append(b, "), ("...)
		default:
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(append(b, '$'), int64(i+1), 10)
	}
	return string(append(b, ')'))
}
