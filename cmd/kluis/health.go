package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/kluis-io/kluis/api"
)

// readiness says whether the process can serve, and why not.
type readiness struct {
	mu    sync.Mutex
	told  bool
	err   error
	parts []*part
}

// set says that the process serves, or why it does not.
func (r *readiness) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told, r.err = true, err
}

// needs adds a part without which the process cannot serve. ask returns nil if it answers;
// one that does so neither in time nor when its context ends is not asked again before.
func (r *readiness) needs(name string, ask func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, &part{name: name, ask: ask})
}

// get returns why the process cannot serve, nil if it can, and the parts that are the cause.
func (r *readiness) get() (map[string]string, error) {
	r.mu.Lock()
	told, err, parts := r.told, r.err, r.parts
	r.mu.Unlock()
	switch {
	case !told:
		return nil, errors.New("starting")
	case err != nil:
		return nil, err
	}
	faulty := map[string]string{}
	for _, p := range parts { // all are being asked before the first is waited for
		p.question()
	}
	for _, p := range parts {
		if err := p.state(); err != nil {
			faulty[p.name] = err.Error()
		}
	}
	if len(faulty) > 0 {
		return faulty, errors.New("a party's database cannot be used")
	}
	return nil, nil
}

// How long an answer is told again, and how long one is waited for.
const (
	answerFresh = time.Second
	answerTime  = 3 * time.Second
)

// What is told of a part. Its errors are for the log: anybody may ask.
var (
	errSilent  = errors.New("does not answer")
	errFailing = errors.New("fails")
)

// A part is asked by one question at a time, however many want to know.
type part struct {
	name string
	ask  func(context.Context) error

	mu       sync.Mutex
	err      error
	answered time.Time     // when err was true; zero if it was never asked
	asking   chan struct{} // closed with the answer to the question under way, nil if there is none
	since    time.Time     // when that was put
}

// question asks, unless the answer is known or is waited for already.
func (p *part) question() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking != nil || time.Since(p.answered) < answerFresh {
		return
	}
	p.asking, p.since = make(chan struct{}), time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		err := p.ask(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			slog.Warn("a party's database cannot be used", "party", p.name, "error", err)
			err = errFailing
		}
		p.err, p.answered = err, time.Now()
		close(p.asking)
		p.asking = nil
	}()
}

// state returns nil if the part answers. It waits for the answer only if the last one is too
// old to be told.
func (p *part) state() error {
	p.mu.Lock()
	asking, since, err := p.asking, p.since, p.err
	known := time.Since(p.answered) < answerFresh+answerTime
	p.mu.Unlock()
	if asking == nil || known {
		return err
	}
	left := time.NewTimer(answerTime - time.Since(since))
	defer left.Stop()
	select {
	case <-asking:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.err
	case <-left.C:
		return errSilent
	}
}

// handler answers /healthz, for as long as the process lives, and /readyz, while it can serve:
// from the end of its start until it is told to stop, as long as the parties' databases answer.
func (r *readiness) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if req.URL.Path == "/readyz" {
			if faulty, err := r.get(); err != nil {
				answer := map[string]any{"status": "unready", "reason": err.Error()}
				if len(faulty) > 0 {
					answer["databases"] = faulty
				}
				api.WriteJSON(w, http.StatusServiceUnavailable, answer)
				return
			}
		}
		api.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
}
