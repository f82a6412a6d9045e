package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/internal/webhook"
	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/kpi"
)

// What the server tells when something cannot wait for the next report: from the
// configuration file alone.
type (
	// An alertsConfig says to whom alerts go.
	alertsConfig struct {
		Every    time.Duration    `yaml:"every"`    // between two looks; a minute if left out
		Webhooks []receiverConfig `yaml:"webhooks"` // CloudEvents, signed
		Mail     *mailConfig      `yaml:"mail"`
		Syslog   *syslogConfig    `yaml:"syslog"`
	}
	// A mailConfig is a mail server, and for whom.
	mailConfig struct {
		Server       string   `yaml:"server"`       // host and port
		Security     string   `yaml:"security"`     // starttls (if left out), tls, or none on loopback
		Username     string   `yaml:"username"`     // none if left out
		PasswordFile string   `yaml:"passwordFile"` // holds the password
		CA           string   `yaml:"ca"`           // PEM file; the system's authorities if left out
		From         string   `yaml:"from"`
		To           []string `yaml:"to"`
	}
)

// alerts returns the board that watches, nil if nobody is to be told.
func (s *server) alerts(followers []*export.Follower) (*alert.Board, error) {
	c := s.config.Alerts
	if c == nil {
		return nil, nil
	}
	if s.governance == nil {
		return nil, usageError{errors.New("alerts: the role governance watches, and this process does not have it")}
	}
	sinks, err := c.sinks("/kluis/" + s.identity.Instance)
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	w := &watch{server: s, followers: followers, down: map[string]alert.Down{}, failing: map[string]audit.Entry{}}
	return alert.New(alert.Config{Store: s.governance.db.Alert(), Sinks: sinks, Signal: w.signals, Every: c.Every}), nil
}

func (c alertsConfig) sinks(source string) (map[string]alert.Sink, error) {
	all := map[string]alert.Sink{}
	for i, w := range c.Webhooks {
		sender, err := w.sender()
		if err != nil {
			return nil, fmt.Errorf("webhook %d: %w", i+1, err)
		}
		all[fmt.Sprintf("webhook-%d", i+1)] = hookSink{sender, source}
	}
	if m := c.Mail; m != nil {
		mail := alert.Mail{Server: m.Server, Security: m.Security, Username: m.Username, From: m.From, To: m.To, TLS: &tls.Config{}}
		if m.PasswordFile != "" {
			text, err := os.ReadFile(m.PasswordFile)
			if err != nil {
				return nil, err
			}
			mail.Password = strings.TrimRight(string(text), "\r\n")
		}
		if m.CA != "" {
			pool, err := readPool(m.CA)
			if err != nil {
				return nil, err
			}
			mail.TLS.RootCAs = pool
		}
		if err := mail.Check(); err != nil {
			return nil, err
		}
		all["mail"] = mail
	}
	if c.Syslog != nil {
		sink, err := c.Syslog.sink(func(n audit.Numbered) ([]byte, error) { return []byte(n.Detail["event"]), nil })
		if err != nil {
			return nil, err
		}
		all["syslog"] = &syslogSink{sink, source}
	}
	if len(all) == 0 {
		return nil, usageError{errors.New("they need a webhook, mail or syslog to go to")}
	}
	return all, nil
}

// A hookSink posts alerts as signed CloudEvents.
type hookSink struct {
	sender *webhook.Sender
	source string
}

func (h hookSink) Send(ctx context.Context, m alert.Message) error {
	body, err := m.CloudEvent(h.source)
	if err != nil {
		return err
	}
	_, err = h.sender.Send(ctx, m.ID, body)
	return err
}

// A syslogSink writes alerts as the audit copies' syslog does.
type syslogSink struct {
	*export.Syslog
	source string
}

func (s *syslogSink) Send(ctx context.Context, m alert.Message) error {
	body, err := m.CloudEvent(s.source)
	if err != nil {
		return err
	}
	return s.Write(ctx, []audit.Numbered{{Sequence: int64(m.Alert.Times), Entry: audit.Entry{
		Time: m.Alert.Told, Operation: "Alert" + string(m.Alert.Kind), Outcome: audit.Denied, Detail: map[string]string{"event": string(body)},
	}}})
}

// A watch reads the logs on, and says what is so.
type watch struct {
	*server
	followers []*export.Follower

	vaultAt, platformAt int64 // the next entry to read; 0 before the first look
	attempts            []kpi.Attempt
	down                map[string]alert.Down  // keys, by their resource id
	failing             map[string]audit.Entry // the last failure of a scope's keys, by scope and operation
}

// silence is how long a copy of a log may be late.
const silence = 15 * time.Minute

// since is how far back the first look goes.
const watchSince = 24 * time.Hour

func (w *watch) signals(ctx context.Context, now time.Time) ([]alert.Signal, error) {
	all, keys, err := alert.FromScans(ctx, w.governance.db.Posture(), now)
	if err != nil {
		return nil, err
	}
	vault, platform, err := w.watchedLogs()
	if err != nil {
		return nil, err
	}
	if vault != nil {
		if w.vaultAt, err = readOn(ctx, vault, w.vaultAt, now, w.vaultEntry); err != nil {
			return nil, err
		}
		w.attempts = slices.DeleteFunc(w.attempts, func(a kpi.Attempt) bool { return a.Time.Before(now.Add(-watchSince)) })
		all = append(all, alert.FromAttempts(w.attempts, now)...)
		var down []alert.Down
		for _, d := range w.down {
			down = append(down, d)
		}
		all = append(all, alert.FromDown(down, keys)...)
	}
	if platform != nil {
		if w.platformAt, err = readOn(ctx, platform, w.platformAt, now, w.platformEntry); err != nil {
			return nil, err
		}
		for _, e := range w.failing {
			all = append(all, alert.Signal{Kind: alert.EncryptionFailing, Subject: e.Resource, Severity: "high",
				Detail: fmt.Sprintf("%s has failed since %s: %s", e.Operation, e.Time.Format(time.RFC3339), e.Reason),
				Mend:   "Look at 'kluis encryption status'; if nobody meant to revoke, give the platform its key back."})
		}
	}
	for _, f := range w.followers {
		since, err := f.Waiting(ctx)
		if err != nil {
			return nil, err
		}
		if !since.IsZero() && now.Sub(since) > silence {
			all = append(all, alert.Signal{Kind: alert.AuditSinkSilent, Subject: f.Name, Severity: "high",
				Detail: "entries since " + since.Format(time.RFC3339) + " have not reached it", Mend: "Look at the receiver, and at the server's log for its answer."})
		}
	}
	return all, nil
}

// readOn reads a log from where it was left, at first from a day ago.
func readOn(ctx context.Context, log entryLog, next int64, now time.Time, fn func(audit.Entry)) (int64, error) {
	var q audit.Query
	if next > 0 {
		q.After = new(next - 1)
	} else {
		q.From = now.Add(-watchSince)
	}
	err := eachEntry(ctx, log, q, func(e audit.Numbered) error {
		fn(e.Entry)
		next = e.Sequence + 1
		return nil
	})
	return next, err
}

func (w *watch) vaultEntry(e audit.Entry) {
	var in kpi.Input
	addAttempt(&in, e)
	w.attempts = append(w.attempts, in.Attempts...)
	if e.Outcome != audit.Allowed {
		return
	}
	how := ""
	switch e.Operation {
	case "KeyDelete":
		how = "deleted"
	case "KeyUpdate":
		if e.Detail["enabled"] == "false" {
			how = "disabled"
		}
	case "KeyRecover", "KeyRotate", "KeyCreate":
	default:
		return
	}
	vaultID, key, _ := strings.Cut(e.Resource, "/keys/")
	delete(w.down, e.Resource)
	if how != "" {
		w.down[e.Resource] = alert.Down{Vault: vaultID[strings.LastIndexByte(vaultID, '/')+1:], Key: key, How: how}
	}
}

func (w *watch) platformEntry(e audit.Entry) {
	switch e.Operation {
	case "ReencryptItem", "ResealItem", "RewrapScopeShare", "WrapScopeShare", "UnwrapScopeShare":
		id := e.Operation + " " + e.Resource
		if e.Outcome == audit.Allowed {
			delete(w.failing, id)
		} else if _, known := w.failing[id]; !known {
			w.failing[id] = e
		}
	}
}
