package main

import (
	"errors"
	"net/http"
	"sync"

	"github.com/kluis-io/kluis/api"
)

// readiness says whether the process can serve, and why not.
type readiness struct {
	mu   sync.Mutex
	told bool
	err  error
}

func (r *readiness) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told, r.err = true, err
}

func (r *readiness) get() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.told {
		return errors.New("starting")
	}
	return r.err
}

// handler answers /healthz, for as long as the process lives, and /readyz, while
// it can serve.
func (r *readiness) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if req.URL.Path == "/readyz" {
			if err := r.get(); err != nil {
				api.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "unready", "reason": err.Error()})
				return
			}
		}
		api.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
}
