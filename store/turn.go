package store

import (
	"database/sql"
	"errors"

	"github.com/kluis-io/kluis/internal/turn"
)

// Turns returns whose turn it is to do what one of the database's processes does.
func (d Domains) Turns() turn.Store {
	return domain[turn.Tx]{d.runner, func(t *Tx) turn.Tx { return t }}
}

func (t *Tx) Turn(name string) (out turn.Turn, err error) {
	var until int64
	err = t.row(`SELECT owner, until, done FROM turn WHERE name = $1`, []any{name}, &out.Owner, &until, &out.Done)
	if errors.Is(err, sql.ErrNoRows) {
		return out, nil
	}
	out.Until = fromMicros(until)
	return out, err
}

func (t *Tx) PutTurn(name string, to turn.Turn) error {
	_, err := t.exec(`INSERT INTO turn (name, owner, until, done) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until, done = excluded.done`,
		name, to.Owner, micros(to.Until), to.Done)
	return err
}
