package main

import (
	"context"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/auditlog"
	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/audit/export"
	"github.com/kluis-io/kluis/audit/reader"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// wireAuditLogs serves the parties' logs to whom each party lets read its own.
func (s *server) wireAuditLogs(rt *router, tokens api.Tokens) {
	var readers []auditlog.Reader
	add := func(p *party, allowed func(context.Context, identity.Caller) error) {
		readers = append(readers, reader.New(reader.Config{
			Party: p.name, Log: p.log, Allowed: allowed,
			Verify: func(ctx context.Context) (*audit.Report, error) {
				if _, err := p.log.Checkpoint(ctx); err != nil { // so that what was just done is covered
					return nil, err
				}
				return verifyLog(ctx, p.db, p.dir)
			},
		}))
	}
	if s.custodian != nil {
		add(s.custodian, s.readsVaultLog)
	}
	if s.operator != nil {
		add(s.operator, mayRead(s.operator, rbac.PlatformRoles, rbac.AuditRead, "/"))
	}
	if s.governance != nil {
		add(s.governance, mayRead(s.governance, rbac.GovernanceRoles, rbac.FindingsRead, "/"))
	}
	add(s.login, s.directory.Administers)
	azure := export.Azure{Suffix: s.host("vault"), ARM: s.authority("management"), Status: keyvault.Status}
	rt.auditlog = auditlog.New(readers, map[string]auditlog.Format{"json": export.JSON, "azure": azure.Format}, tokens, s.authority("audit"))
}

// mayRead returns whether a caller holds an action at a party's scope.
func mayRead(p *party, roles rbac.Definitions, action rbac.Action, scope rbac.Scope) func(context.Context, identity.Caller) error {
	return func(ctx context.Context, c identity.Caller) error {
		return p.db.Roles().View(ctx, func(tx rbac.Tx) error {
			_, ok, err := rbac.Check(tx, roles, c, action, false, scope)
			if err == nil && !ok {
				err = fault.New(fault.Denied, "This needs the action "+string(action)+" at "+string(scope)+".")
			}
			return err
		})
	}
}

// readsVaultLog decides by the caller's rights at a subscription of its tenant's: the log
// tells of all that lies in them.
func (s *server) readsVaultLog(ctx context.Context, c identity.Caller) error {
	subscriptions, err := s.vaults.Subscriptions(ctx, c)
	if err != nil {
		return err
	}
	for _, sub := range subscriptions {
		err := mayRead(s.custodian, rbac.VaultRoles, rbac.ActivityLogRead, sub.Scope())(ctx, c)
		if fault.ReasonOf(err) != fault.Denied {
			return err
		}
	}
	return fault.New(fault.Denied, "This needs the action "+string(rbac.ActivityLogRead)+" at the subscription.")
}
