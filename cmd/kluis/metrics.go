package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/vault/event"
)

// metrics are what the server tells Prometheus of itself. No label holds a tenant's
// name or id: their values are of closed lists.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	acts      map[*party]*prometheus.CounterVec
	vaultTime *prometheus.HistogramVec

	questions, transactions, objectTime *prometheus.HistogramVec
	statements, objectBytes             *prometheus.CounterVec
}

// seconds are the bounds of what is told in seconds, from a look into memory to a
// request that nobody should wait for.
var seconds = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), acts: map[*party]*prometheus.CounterVec{}}
	m.requests = m.counter("kluis_http_requests_total", "Requests answered.", "service", "method", "code")
	m.durations = m.histogram("kluis_http_request_duration_seconds", "Time until the answer was complete.", "service")
	m.vaultTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "kluis_vault_operation_duration_seconds", Help: "Time that a vault's act took until it was recorded.", Buckets: seconds,
	}, []string{"operation"})
	m.questions = m.histogram("kluis_kek_request_duration_seconds", "Time until a customer's vault answered the platform, or was given up.", "operation", "outcome")
	m.transactions = m.histogram("kluis_store_transaction_duration_seconds", "Time of a transaction, until it was durable if it wrote.", "party", "kind", "outcome")
	m.statements = m.counter("kluis_store_statements_total", "Statements sent to a database.", "party", "kind")
	m.objectTime = m.histogram("kluis_object_operation_duration_seconds", "Time of an operation of the object store.", "operation", "outcome")
	m.objectBytes = m.counter("kluis_object_bytes_total", "Encrypted bytes moved to and from the object store.", "direction")
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kluis_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: seconds}, labels)
	m.registry.MustRegister(v)
	return v
}

// serve counts the requests of a service.
func (m *metrics) serve(service string, h http.Handler) http.Handler {
	return promhttp.InstrumentHandlerDuration(m.durations.MustCurryWith(prometheus.Labels{"service": service}),
		promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(prometheus.Labels{"service": service}), h))
}

// listenMetrics serves the metrics, if the configuration asks for it, until ctx ends.
func (s *server) listenMetrics(ctx context.Context, copies []*export.Follower) error {
	if s.metrics == nil {
		return nil
	}
	l, err := net.Listen("tcp", s.config.Metrics)
	if err != nil {
		return err
	}
	m := s.metrics
	for _, p := range s.parties() {
		m.acts[p] = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kluis_" + p.name + "_operations_total", Help: "Acts of the " + p.name + " as its audit log has them.",
		}, []string{"operation", "outcome"})
		m.registry.MustRegister(m.acts[p])
		if p == s.custodian {
			m.registry.MustRegister(m.vaultTime)
		}
		s.workers.Go(func() { m.follow(ctx, p, p == s.custodian) })
	}
	m.registry.MustRegister(&state{server: s, copies: copies})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	slog.Info("metrics are served", "address", l.Addr().String())
	s.workers.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the metrics' listener has failed", "error", err)
		}
	})
	context.AfterFunc(ctx, func() { srv.Close() })
	return nil
}

// loopback checks an address that is for this machine alone.
func loopback(name, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usageError{fmt.Errorf("%s takes an address and a port, such as 127.0.0.1:9464: %w", name, err)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usageError{fmt.Errorf("%s: %q is no loopback address, such as 127.0.0.1", name, host)}
	}
	return nil
}

// follow counts the acts of a party from its log, from now on.
func (m *metrics) follow(ctx context.Context, p *party, timed bool) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var at *int64
	for {
		next, err := m.count(ctx, p, at, timed)
		if err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "counting the acts", "party", p.name, "error", err)
		}
		at = next // what was counted is, whatever came then
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// count reads the log on behind at; the first time it only looks where the end is.
func (m *metrics) count(ctx context.Context, p *party, at *int64, timed bool) (*int64, error) {
	if at == nil {
		last, err := p.log.Entries(ctx, audit.Query{NewestFirst: true, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(last) == 0 {
			return new(int64(-1)), nil
		}
		return &last[0].Sequence, nil
	}
	var q audit.Query
	if *at >= 0 {
		q.After = at
	}
	err := eachEntry(ctx, p.log, q, func(e audit.Numbered) error {
		m.acts[p].WithLabelValues(e.Operation, string(e.Outcome)).Inc()
		if micros, err := strconv.ParseInt(e.Detail["micros"], 10, 64); err == nil && timed {
			m.vaultTime.WithLabelValues(e.Operation).Observe(float64(micros) / 1e6)
		}
		at = new(e.Sequence)
		return nil
	})
	return at, err
}

// A state is read when it is asked for.
type state struct {
	*server
	copies []*export.Follower
	mu     sync.Mutex
}

var (
	scopesDesc  = prometheus.NewDesc("kluis_scopes_pending", "Scopes about which something is to be done: not serving, or being re-encrypted.", []string{"serving"}, nil)
	entriesDesc = prometheus.NewDesc("kluis_audit_entries", "Entries of an audit log.", []string{"party"}, nil)
	lagDesc     = prometheus.NewDesc("kluis_audit_export_lag_seconds", "For how long an entry has waited for a copy's receiver; 0 if none waits.", []string{"copy"}, nil)
	alertsDesc  = prometheus.NewDesc("kluis_alerts", "Alerts that stand.", []string{"kind", "severity", "state"}, nil)
	postureDesc = prometheus.NewDesc("kluis_posture_resources", "Resources by verdict, of the newest scan of each estate.", []string{"verdict"}, nil)
	leasesDesc  = prometheus.NewDesc("kluis_key_leases", "Scopes whose keys are open in memory under a lease.", nil, nil)
	vaultsDesc  = prometheus.NewDesc("kluis_kek_vaults", "Customers' vaults that scopes in memory depend on: all, those that do not answer, and those whose leases are stretched to keep to the budget.", []string{"state"}, nil)
	longestDesc = prometheus.NewDesc("kluis_key_lease_longest_seconds", "The longest that a key lease given now would be; more than the configured length while a vault's budget stretches it.", nil, nil)
	deliverDesc = prometheus.NewDesc("kluis_webhook_deliveries", "Events that wait for their receivers, and those given up; 1000 stands for more.", []string{"state"}, nil)
	scannedDesc = prometheus.NewDesc("kluis_posture_last_scan_timestamp_seconds", "When the newest scan was made.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (st *state) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{scopesDesc, entriesDesc, lagDesc, alertsDesc, postureDesc, scannedDesc, leasesDesc, vaultsDesc, longestDesc, deliverDesc} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. What cannot be read is left out, and the
// log says so: a figure that is not there is better than one that is old.
func (st *state) Collect(out chan<- prometheus.Metric) {
	st.mu.Lock()
	defer st.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := time.Now()
	failed := func(what string, err error) {
		if err != nil {
			slog.Error("reading a metric", "metric", what, "error", err)
		}
	}
	for _, p := range st.parties() {
		last, err := p.log.Entries(ctx, audit.Query{NewestFirst: true, Limit: 1})
		failed("kluis_audit_entries", err)
		if len(last) > 0 {
			gauge(entriesDesc, float64(last[0].Sequence+1), p.name)
		}
	}
	for _, f := range st.copies {
		since, err := f.Waiting(ctx)
		failed("kluis_audit_export_lag_seconds", err)
		if err == nil {
			lag := 0.0
			if !since.IsZero() {
				lag = now.Sub(since).Seconds()
			}
			gauge(lagDesc, lag, f.Name)
		}
	}
	if st.operator != nil {
		failed("kluis_scopes_pending", st.operator.db.Encryption().View(ctx, func(tx encryption.Tx) error {
			n, err := tx.Pending()
			gauge(scopesDesc, float64(n.Changing), "Serving")
			gauge(scopesDesc, float64(n.Revoked), string(encryption.Revoked))
			gauge(scopesDesc, float64(n.Unreachable), string(encryption.Unreachable))
			return err
		}))
	}
	if st.ring != nil {
		v := st.ring.Vaults()
		gauge(leasesDesc, float64(v.Open))
		gauge(longestDesc, v.Longest.Seconds())
		gauge(vaultsDesc, float64(v.Known), "known")
		gauge(vaultsDesc, float64(v.Silent), "silent")
		gauge(vaultsDesc, float64(v.Stretched), "stretched")
	}
	if st.custodian != nil {
		for state, dead := range map[string]bool{"waiting": false, "dead": true} {
			all, err := event.Deliveries(ctx, st.custodian.db.Event(), dead, 1000)
			failed("kluis_webhook_deliveries", err)
			if err == nil {
				gauge(deliverDesc, float64(len(all)), state)
			}
		}
	}
	if st.governance != nil {
		failed("kluis_alerts", st.collectAlerts(ctx, now, gauge))
		failed("kluis_posture_resources", st.collectScans(ctx, gauge))
	}
}

func (st *state) collectAlerts(ctx context.Context, now time.Time, gauge func(*prometheus.Desc, float64, ...string)) error {
	all, err := alert.List(ctx, st.governance.db.Alert(), false)
	n := map[[3]string]int{}
	for _, a := range all {
		n[[3]string{string(a.Kind), string(a.Severity), a.State(now)}]++
	}
	for labels, count := range n {
		gauge(alertsDesc, float64(count), labels[:]...)
	}
	return err
}

func (st *state) collectScans(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) error {
	return st.governance.db.Posture().View(ctx, func(tx history.Tx) error {
		scans, err := tx.Scans("", time.Time{}, 1000)
		if err != nil || len(scans) == 0 {
			return err
		}
		gauge(scannedDesc, float64(scans[0].Time.UnixMicro())/1e6)
		seen := map[string]bool{}
		n := map[string]int{}
		for _, s := range scans { // newest first
			if seen[s.Estate] {
				continue
			}
			seen[s.Estate] = true
			m := s.Summary
			for verdict, count := range map[string]int{
				"compliant": m.Compliant, "non-compliant": m.NonCompliant, "unknown": m.Unknown, "excepted": m.Excepted,
				"not-supported": m.NotSupported, "out-of-scope": m.OutOfScope, "unclassified": m.Unclassified,
			} {
				n[verdict] += count
			}
		}
		for verdict, count := range n {
			gauge(postureDesc, float64(count), verdict)
		}
		return nil
	})
}
