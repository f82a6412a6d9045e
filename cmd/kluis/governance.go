package main

import (
	"bytes"
	"context"
	"time"

	"github.com/kluis-io/kluis/api"
	postureapi "github.com/kluis-io/kluis/api/posture"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/governance"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/evidence"
	"github.com/kluis-io/kluis/posture/kpi"
)

// wireGovernance sets up the side that watches.
func (s *server) wireGovernance(rt *router, tokens api.Tokens) {
	c := governance.Config{
		Store: s.governance.db.Governance(), Audit: s.governance.log, Tenant: orDefault(identity.TenantID(s.config.Posture.Tenant), s.identity.Tenant), Logs: s.tellLogs, Seal: s.sealPack,
	}
	if s.config.Dev || s.config.Posture.Profile != "" {
		c.Look = s.look
	}
	s.records = governance.New(c)
	rt.posture = postureapi.New(s.records, tokens, s.authority("posture"))
}

// look scans the estate that the configuration names, as a client of its interfaces.
func (s *server) look(ctx context.Context, accepted []posture.Exception) (governance.Found, error) {
	c := s.config.Posture
	flags := c.flags(s.config.Data)
	flags.accepted = accepted
	found, err := flags.scan(ctx)
	return governance.Found{Estate: orDefault(c.Estate, "kluis"), Source: "profile", Scan: found}, err
}

// tellLogs adds what the other parties' logs tell from a time on.
func (s *server) tellLogs(ctx context.Context, since time.Time, in *kpi.Input) error {
	vault, platform, err := s.watchedLogs()
	if err != nil {
		return err
	}
	if vault != nil {
		first, err := vault.Entries(ctx, audit.Query{Limit: 1})
		if err != nil {
			return err
		}
		if len(first) > 0 {
			in.LogFrom = first[0].Time
		}
		if err := eachEntry(ctx, vault, audit.Query{From: since}, func(e audit.Numbered) error { addAttempt(in, e.Entry); return nil }); err != nil {
			return err
		}
	}
	if platform == nil {
		return nil
	}
	in.DrillLog = true
	return eachEntry(ctx, platform, audit.Query{From: since, Operation: revocationDrill}, func(e audit.Numbered) error { addDrill(in, e.Entry); return nil })
}

// sealPack makes an evidence pack with extracts of the logs that are open here.
func (s *server) sealPack(ctx context.Context, p governance.Pack) ([]byte, error) {
	flags := s.config.Posture.flags(s.config.Data)
	contents := evidence.Contents{Scan: p.Found.Scan, KPIs: p.Input, Window: p.Window}
	var err error
	if contents.Policy, err = flags.policyText(); err != nil {
		return nil, err
	}
	if contents.Extra, err = flags.controlTexts(); err != nil {
		return nil, err
	}
	for _, party := range s.parties() {
		files, err := logExtract(ctx, party.log, party.name, p.Window)
		if err != nil {
			return nil, err
		}
		contents.Extra = append(contents.Extra, files...)
	}
	files, err := contents.Files()
	if err != nil {
		return nil, err
	}
	signer, err := evidenceSigner(s.governance.path(evidenceKeyFile))
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	err = evidence.Write(&archive, signer, evidence.Manifest{Made: time.Now(), Maker: "kluis " + version, Subject: p.Found.Estate}, files)
	return archive.Bytes(), err
}
