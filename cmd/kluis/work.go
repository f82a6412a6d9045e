package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// work runs what happens without being asked for, until ctx ends.
func (s *server) work(ctx context.Context) {
	s.hear(ctx)
	if s.ring != nil {
		s.workers.Go(func() { s.ring.Run(ctx) })
		s.workers.Go(func() { s.scopes.Run(ctx) })
		s.every(ctx, s.operator, time.Minute, "sweeping workspaces", s.workspaces.Sweep)
		s.every(ctx, s.operator, time.Minute, "sweeping storage accounts", s.accounts.Sweep)
		s.every(ctx, s.operator, time.Minute, "sweeping the lake", s.lake.Sweep)
		s.every(ctx, s.operator, time.Hour, "verifying customers' keys", s.ring.Verify)
		scrub := s.operator.alone("scrubbing", func(ctx context.Context) { s.lake.Scrub(ctx) })
		s.workers.Go(func() { scrub(ctx) })
	}
	if s.issuer != nil {
		s.every(ctx, s.login, time.Hour, "replacing the issuer's signing key", s.issuer.Sweep)
	}
	if s.vaults != nil {
		s.every(ctx, s.custodian, time.Minute, "sweeping vaults", func(ctx context.Context) error { return s.vaults.Sweep(ctx, time.Now()) })
	}
}

// every does a party's work again and again, in one of the processes that share its
// database.
func (s *server) every(ctx context.Context, p *party, d time.Duration, what string, fn func(context.Context) error) {
	run := p.alone(what, func(ctx context.Context) {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			if err := traced(ctx, what, fn); err != nil && ctx.Err() == nil {
				slog.Error(what, "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	s.workers.Go(func() { run(ctx) })
}

// drainTime bounds how long a stop waits for requests under way.
const drainTime = 20 * time.Second

var errStopping = errors.New("stopping")

// drain goes on serving, and says that it will not for long, until the load balancer has
// noticed. It returns why the process must not go on even for that long.
func (s *server) drain(d time.Duration) error {
	s.ready.set(errStopping)
	select {
	case err := <-s.failure:
		return err
	case <-time.After(d):
		return nil
	}
}

// stop drains the listeners, ends the workers and closes the parties.
func (s *server) stop() error {
	s.ready.set(errStopping)
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if s.vaults != nil {
		s.vaults.Close() // ends the long polls
	}
	if s.portal != nil {
		s.portal.Close() // and this what open pages wait for
	}
	var errs []error
	for _, srv := range s.http {
		if err := srv.Shutdown(ctx); err != nil {
			srv.Close()
			errs = append(errs, err)
		}
	}
	if s.halt != nil {
		s.halt() // after the last request, which may need a key
	}
	s.workers.Wait()
	for _, p := range slices.Backward(s.parties()) {
		errs = append(errs, p.close())
	}
	if s.hsm != nil {
		s.hsm.Close()
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.config.traced.stop(ctx)
	return errors.Join(errs...)
}
