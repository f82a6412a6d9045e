package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// Processes that share a database tell each other what they have committed, by the
// server's LISTEN and NOTIFY. What is told is a kind of thing and an id. Whoever reaches
// the database may tell anything: it is a hint to look, and no decision.
const (
	channel = "kluis"
	tell    = "SELECT pg_notify('" + channel + "', $1 || ' ' || $2)"
)

// Listen calls heard with what any process that uses the database, this one too, says has
// changed, from when it calls ready, until ctx ends or its connection is gone: it then
// returns why. What is said while nobody listens is not said again. heard must not block.
func (db *DB) Listen(ctx context.Context, ready func(), heard func(about, id string)) error {
	pool, err := db.listen()
	if err != nil {
		return err
	}
	defer pool.Close()
	c, err := pool.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "LISTEN "+channel); err != nil {
		return explain(err)
	}
	ready()
	err = c.Raw(func(driver any) error {
		line := driver.(*stdlib.Conn).Conn()
		for {
			n, err := line.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			if about, id, ok := strings.Cut(n.Payload, " "); ok {
				heard(about, id)
			}
		}
	})
	var said *pgconn.PgError
	if ctx.Err() != nil && !errors.As(err, &said) {
		return ctx.Err()
	}
	return explain(err)
}
