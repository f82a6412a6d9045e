// Package event tells receivers outside what happens in vaults, as CloudEvents
// 1.0: Azure's own types for new versions, expiry and access policies, and kluis's
// for what Azure has none.
//
// The source of truth is the vaults' change feeds: whatever was missed while nobody
// ran is found by the next look. An event's deliveries are rows of the vault's
// database, written in the transaction that notes how far the feed was read.
//
// # What it promises
//
// A receiver gets each event at least once, and again only if a crash, or an
// answer that did not come, left it open; the event's id is the same each time.
// Events of one key come in order: a later one waits for an earlier one. What
// cannot be delivered for a day is given up and kept for all to see for a month.
// Receivers are given by the configuration alone, and none of them holds up
// another, or a vault.
//
// Sending is a [Sender]'s.
package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// A Type is an event's type.
type Type string

// Azure's types (learn.microsoft.com/azure/event-grid/event-schema-key-vault), and
// the prefix of kluis's own.
const (
	KeyNewVersionCreated     Type = "Microsoft.KeyVault.KeyNewVersionCreated"
	KeyNearExpiry            Type = "Microsoft.KeyVault.KeyNearExpiry" // 30 days before, or as the rotation policy says
	KeyExpired               Type = "Microsoft.KeyVault.KeyExpired"
	VaultAccessPolicyChanged Type = "Microsoft.KeyVault.VaultAccessPolicyChanged"

	own = "io.kluis.vault."

	VaultPurged Type = own + "VaultPurged"
	ChangesLost Type = own + "ChangesLost" // there were more than the feed keeps: look at the vault
)

// types are the kinds of changes in events' words. A kind that is not here becomes
// kluis's type of its name.
var types = map[vault.Kind]Type{
	vault.KeyCreated:          KeyNewVersionCreated,
	vault.KeyRotated:          KeyNewVersionCreated,
	vault.KeyDisabled:         own + "KeyVersionDisabled",
	vault.KeyEnabled:          own + "KeyVersionEnabled",
	vault.KeyNearExpiry:       KeyNearExpiry,
	vault.KeyExpired:          KeyExpired,
	vault.AccessPolicyChanged: VaultAccessPolicyChanged,
	vault.RoleAssigned:        own + "RoleAssignmentCreated",
	vault.RoleRemoved:         own + "RoleAssignmentDeleted",
}

// TypeOf returns the type that a kind of change becomes.
func TypeOf(k vault.Kind) Type {
	if t, ok := types[k]; ok || k == "" {
		return t
	}
	return Type(own + strings.ToUpper(string(k[:1])) + string(k[1:]))
}

// ContentType is a CloudEvent's in structured mode.
const ContentType = "application/cloudevents+json; charset=utf-8"

// A CloudEvent is an event as it is sent (CloudEvents 1.0, structured JSON).
type CloudEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`     // the same in each delivery
	Source      string    `json:"source"` // the vault's resource id
	Type        Type      `json:"type"`
	Subject     string    `json:"subject"` // the key's name, or the vault's
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        Data      `json:"data"`
}

// Data is what Azure's events say, with the principal for changes of rights.
type Data struct {
	ID         string               `json:"Id"` // URL of the key's version, or of the vault
	VaultName  vault.Name           `json:"VaultName"`
	ObjectType string               `json:"ObjectType"` // Key or Vault
	ObjectName string               `json:"ObjectName"`
	Version    vault.Version        `json:"Version"`
	NotBefore  *int64               `json:"NBF"` // Unix seconds; null if unset
	Expires    *int64               `json:"EXP"` // Unix seconds; null if unset
	Principal  identity.PrincipalID `json:"PrincipalId,omitempty"`
}

// A subject is what an event is about.
type subject struct {
	vault     vault.ID
	name      vault.Name
	scope     string
	key       vault.KeyName
	version   vault.KeyVersion // what is known of it
	principal identity.PrincipalID
}

// ordering names the line in which the event waits.
func (s subject) ordering() string {
	if s.key == "" {
		return string(s.vault)
	}
	return string(s.vault) + "/" + s.key.Key()
}

func (e *Events) event(id string, typ Type, at time.Time, s subject) CloudEvent {
	base := "https://" + e.host(s.name)
	d := Data{ID: base, VaultName: s.name, ObjectType: "Vault", ObjectName: string(s.name), Principal: s.principal}
	if s.key != "" {
		d.ObjectType, d.ObjectName, d.Version = "Key", string(s.key), s.version.Version
		d.ID = base + "/keys/" + string(s.key)
		if d.Version != "" {
			d.ID += "/" + string(d.Version)
		}
		d.NotBefore, d.Expires = seconds(s.version.NotBefore), seconds(s.version.Expires)
	}
	return CloudEvent{
		SpecVersion: "1.0", ID: id, Source: s.scope, Type: typ, Subject: d.ObjectName, Time: at.UTC(),
		ContentType: "application/json", Data: d,
	}
}

func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(t.Unix())
}

// deliveries returns what an event is for each sink that wants it.
func (e *Events) deliveries(ev CloudEvent, s subject, now time.Time) ([]Delivery, error) {
	body, err := json.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", ev.ID, err)
	}
	var out []Delivery
	for _, sink := range e.sinks {
		if sink.wants(ev.Type, s.name) {
			out = append(out, Delivery{
				Sink: sink.Name, Event: ev.ID, Type: ev.Type, Ordering: s.ordering(), Body: body, Created: now, Next: now,
			})
		}
	}
	return out, nil
}
