package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// What a server must be.
const (
	oldest   = 150000           // server_version_num
	maxDrift = 60 * time.Second // between its clock and ours
)

// fit makes sure that the server keeps what this package promises, and says what to do
// if it does not.
func fit(ctx context.Context, pool *sql.DB) error {
	var version int
	var clock time.Time
	var standby bool
	var fsync, pages, commit, isolation, readOnly, encoding, tolerated string
	asked := time.Now()
	err := pool.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, clock_timestamp(), pg_is_in_recovery(),
		current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
		current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
		current_setting('server_encoding'), coalesce(current_setting('kluis.may_lose_data', true), 'off')`).
		Scan(&version, &clock, &standby, &fsync, &pages, &commit, &isolation, &readOnly, &encoding, &tolerated)
	if err != nil {
		return explain(err)
	}
	drift := max(asked.Sub(clock), -time.Since(clock), 0)
	for _, need := range []struct {
		met        bool
		what, mend string
	}{
		{version >= oldest, fmt.Sprintf("The database server's version is %d.", version/10000), "kluis needs PostgreSQL 15 or later."},
		{!standby && readOnly == "off", "The database server takes no writes.", "Name the primary: with several hosts in the connection string, target_session_attrs=read-write finds it."},
		{encoding == "UTF8", "The database's encoding is " + encoding + ".", "Make it with ENCODING 'UTF8' TEMPLATE template0."},
		{fsync == "on" && pages == "on" || tolerated == "on", "The database server does not flush what it has committed.",
			"Set fsync = on and full_page_writes = on. (A server for tests may have kluis.may_lose_data = on.)"},
		{commit == "on" || commit == "remote_apply", "The database server answers commits before they are durable.", "Let nothing between kluis and the server change synchronous_commit."},
		{isolation == "read committed", "The sessions' isolation is " + isolation + ".", "Let nothing between kluis and the server change default_transaction_isolation."},
		{drift <= maxDrift || tolerated == "on", fmt.Sprintf("The database server's clock and this machine's differ by %s.", drift.Round(time.Second)), "Synchronise both with NTP: key leases and tokens depend on the time."},
	} {
		if !need.met {
			return fault.New(fault.Unavailable, need.what).WithMend(need.mend)
		}
	}
	return locksHold(ctx, pool)
}

// caveat returns what a server that is fit does not promise all the same. It is not refused:
// where standbys share the disk, or are promoted only after they were waited for, nothing is lost.
func caveat(ctx context.Context, pool *sql.DB) (text string, err error) {
	var alone bool // in what it has confirmed
	err = pool.QueryRowContext(ctx, "SELECT current_setting('synchronous_standby_names') = '' AND EXISTS (SELECT FROM pg_stat_replication)").Scan(&alone)
	if alone {
		text = "standbys follow the database server, and it answers commits before any of them has them: a failover may lose what was acknowledged. Set synchronous_standby_names"
	}
	return text, explain(err)
}

// clockOf returns the query for the database's time. A server for tests may be told a
// story of another time, and then the story's time is meant.
func clockOf(ctx context.Context, pool *sql.DB) (string, error) {
	var now time.Time
	var tolerated string
	err := pool.QueryRowContext(ctx, "SELECT clock_timestamp(), coalesce(current_setting('kluis.may_lose_data', true), 'off')").Scan(&now, &tolerated)
	if err != nil {
		return "", explain(err)
	}
	if tolerated == "on" && time.Since(now).Abs() > maxDrift {
		return "", nil
	}
	return clock, nil
}

// locksHold makes sure that an advisory lock of one session keeps another's out: whatever
// is written rests on it. Servers that speak PostgreSQL's protocol may know the function
// and lock nothing, and a pooler may make one session of two.
func locksHold(ctx context.Context, pool *sql.DB) error {
	key := rand.Int64()
	one, err := pool.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer one.Close()
	two, err := pool.Conn(ctx)
	if err != nil {
		return explain(err)
	}
	defer two.Close()
	var first, second bool
	if err := one.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&first); err != nil {
		return explain(err)
	}
	if err := two.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&second); err != nil {
		return explain(err)
	}
	if _, err := one.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", key); err != nil {
		return explain(err)
	}
	if !first || second {
		return fault.New(fault.Unavailable, "The database server's advisory locks hold nobody back.").
			WithMend("Connect to PostgreSQL itself, or through a pooler that gives each connection a session of its own.")
	}
	return nil
}
