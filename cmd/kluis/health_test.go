package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What a balancer is told: while the process starts and stops, and when a database fails, is
// silent, and is back. However many ask, one question a second reaches a database.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r readiness
		type answer struct {
			Status, Reason string
			Databases      map[string]string
		}
		ask := func() (code int, a answer) {
			t.Helper()
			w := httptest.NewRecorder()
			r.handler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
			return w.Code, a
		}
		want := func(what string, code int, reason, vault, platform string) {
			t.Helper()
			got, a := ask()
			if got != code || a.Reason != reason || a.Databases["vault"] != vault || a.Databases["platform"] != platform {
				t.Errorf("%s: %d %+v", what, got, a)
			}
		}
		const unusable = "a party's database cannot be used"
		var failing error
		silent := make(chan struct{})
		hangs := false
		var questions atomic.Int64
		r.needs("vault", func(context.Context) error { questions.Add(1); return failing })
		r.needs("platform", func(context.Context) error { // heeds no context, as a driver may not
			if hangs {
				<-silent
			}
			return nil
		})
		want("at the start", 503, "starting", "", "")
		r.set(nil)
		want("when it serves", 200, "", "", "")
		for range 1000 {
			ask()
		}
		if n := questions.Load(); n != 1 {
			t.Errorf("%d questions for a thousand probes", n)
		}

		failing = errors.New("password authentication failed for user geheim")
		want("what was just asked", 200, "", "", "")
		time.Sleep(answerFresh)
		ask() // begins to ask
		synctest.Wait()
		want("a database fails", 503, unusable, "fails", "")
		failing = nil
		time.Sleep(time.Minute)
		want("it is back", 200, "", "", "")

		hangs = true
		time.Sleep(answerFresh)
		want("silent for no time yet", 200, "", "", "")
		time.Sleep(answerTime)
		want("silent", 503, unusable, "", "does not answer")
		began := time.Now()
		want("silent on", 503, unusable, "", "does not answer")
		if took := time.Since(began); took > 0 {
			t.Errorf("a probe of a silent database took %s", took)
		}
		hangs = false
		close(silent)
		synctest.Wait()
		want("it answers again", 200, "", "", "")

		r.set(errors.New("stopping"))
		want("while it drains", 503, "stopping", "", "")
		w := httptest.NewRecorder()
		r.handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != 200 {
			t.Errorf("it lives, and /healthz says %d", w.Code)
		}
	})
}
