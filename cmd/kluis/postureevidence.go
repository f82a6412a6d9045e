package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/evidence"
	"github.com/kluis-io/kluis/posture/kpi"
)

// evidenceKeyFile is the key that signs evidence packs, in the governance folder.
const evidenceKeyFile = "evidence.key"

// An evidenceCommand's flags.
type packFlags struct {
	scanFlags
	recordFlags
	saved, window, key, out, config string
	drills                          []string
}

func postureEvidence() *cobra.Command {
	var p packFlags
	c := &cobra.Command{
		Use:   "evidence --out FILE",
		Short: "Make the signed archive that an auditor takes away",
		Long: `Make one signed and dated zip file of a scan, the history, the figures with their
inputs, the register of keys, extracts of the audit logs with their proofs, drills
and the mapping to frameworks' clauses. Whoever has the key's public part verifies
it without a server.

  kluis posture evidence --out pack.zip          # a running server makes it
  kluis posture evidence --source export:answers --policy policy.yaml --data DIR --out pack.zip
  kluis posture evidence --scan scan.json --history scans.db --key evidence.key --out pack.zip
  kluis posture evidence verify pack.zip --key evidence.key.pub

The key is made when it is not there yet; publish FILE.pub, and keep FILE as what it
is, since whoever has it can make packs.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return p.run(c) },
	}
	p.scanFlags.declare(c)
	p.recordFlags.declare(c)
	f := c.Flags()
	f.StringVar(&p.saved, "scan", "", "a scan saved as JSON, a `FILE`, in place of --source")
	f.StringVar(&p.window, "window", "365d", "of the figures and the logs' extracts: "+strings.Join(kpi.Windows, ", "))
	f.StringVar(&p.key, "key", "", "the signing key's `FILE`; evidence.key in the data directory if left out")
	f.StringVar(&p.config, "config", "", "the server's configuration `FILE`, which names files with secrets and holds none")
	f.StringArrayVar(&p.drills, "drill", nil, "a `FILE` that 'kluis drill --evidence' has written; may be given again")
	f.StringVar(&p.out, "out", "", "the archive's `FILE`")
	c.MarkFlagRequired("out")
	c.AddCommand(evidenceVerify())
	return c
}

func (p *packFlags) run(c *cobra.Command) error {
	ctx := c.Context()
	if p.saved == "" && p.sources == nil && p.atServer() {
		return p.fetch(c)
	}
	contents := evidence.Contents{}
	var err error
	if contents.Scan, err = p.found(ctx); err != nil {
		return err
	}
	if contents.Policy, err = p.policyText(); err != nil {
		return err
	}
	if contents.Window, err = kpi.WindowNamed(p.window, time.Now().UTC()); err != nil {
		return usageError{err}
	}
	if p.history != "" || p.data != "" {
		if contents.KPIs, err = p.input(ctx); err != nil {
			return err
		}
	}
	if contents.Extra, err = p.extra(ctx, contents.Window); err != nil {
		return err
	}
	files, err := contents.Files()
	if err != nil {
		return err
	}
	signer, path, err := p.signer(c)
	if err != nil {
		return err
	}
	subject := "an estate"
	if p.estate != "" {
		subject = p.estate
	}
	var archive bytes.Buffer
	if err := evidence.Write(&archive, signer, evidence.Manifest{Made: time.Now(), Maker: "kluis " + version, Subject: subject}, files); err != nil {
		return err
	}
	if err := durable.WriteFile(p.out, archive.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %d files, %d bytes, signed by %s\nVerify it with: kluis posture evidence verify %s --key %s\n",
		p.out, len(files), archive.Len(), signer.Name(), p.out, path+audit.VerifierSuffix)
	return nil
}

// fetch has a running server make the pack.
func (p *packFlags) fetch(c *cobra.Command) error {
	if p.key != "" || p.config != "" || p.drills != nil || p.policies != nil || p.scanFlags.controls != nil {
		return usageError{errors.New("a server makes the pack of what it knows, with a key of its own: name a --source or --scan for one of files")}
	}
	archive, err := p.scanFlags.server.download(c.Context(), p.window)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(p.out, archive, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %d bytes\nVerify it with: kluis posture evidence verify %s --key FILE, with the public key that the server's operator publishes (%s%s)\n",
		p.out, len(archive), p.out, evidenceKeyFile, audit.VerifierSuffix)
	return nil
}

// policyText returns the classification policy as it was written.
func (s *scanFlags) policyText() (text []byte, err error) {
	for _, name := range s.policies {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			continue // a folder of Azure's definitions: they are Azure's, and published
		}
		if text, err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return text, nil
}

// found returns the scan that the pack is about.
func (p *packFlags) found(ctx context.Context) (*posture.Scan, error) {
	if p.saved == "" {
		return p.scan(ctx)
	}
	if len(p.sources) > 0 {
		return nil, usageError{errors.New("--scan and --source are two ways to say what was found: give one")}
	}
	return readScan(p.saved)
}

// signer returns the signing key, which is made if it is not there.
func (p *packFlags) signer(c *cobra.Command) (note.Signer, string, error) {
	path := p.key
	if path == "" {
		if p.data == "" {
			return nil, "", usageError{errors.New("--key names the signing key's file, or --data the directory that has it")}
		}
		path = filepath.Join(p.data, governanceDir, evidenceKeyFile)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(c.ErrOrStderr(), "kluis: making the signing key %s; publish %s%s\n", path, path, audit.VerifierSuffix)
	}
	s, err := evidenceSigner(path)
	return s, path, err
}

// evidenceSigner returns the key that signs packs, which is made if it is not there.
func evidenceSigner(path string) (note.Signer, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		s, _, err := audit.CreateSigner(path, "kluis/evidence")
		return s, err
	}
	s, _, err := audit.LoadSigner(path)
	return s, err
}

// extra returns the files beside the scan's.
func (p *packFlags) extra(ctx context.Context, w kpi.Window) (all []evidence.File, err error) {
	add := func(name, path string) error {
		text, err := os.ReadFile(path)
		all = append(all, evidence.File{Name: name, Body: text})
		return err
	}
	for i, d := range p.drills {
		if err := add(fmt.Sprintf("drills/%02d-%s", i+1, filepath.Base(d)), d); err != nil {
			return nil, err
		}
	}
	controls, err := p.controlTexts()
	if err != nil {
		return nil, err
	}
	all = append(all, controls...)
	if p.config != "" {
		if err := add("config/server.yaml", p.config); err != nil {
			return nil, err
		}
	}
	if p.data == "" {
		return all, nil
	}
	lock, err := lockDir(p.data)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	for _, party := range allParties {
		files, err := logFiles(ctx, p.data, party, w)
		if err != nil {
			return nil, fmt.Errorf("the %s's log: %w", party, err)
		}
		all = append(all, files...)
	}
	return all, nil
}

// controlTexts returns the controls of one's own as they were written.
func (s *scanFlags) controlTexts() (all []evidence.File, err error) {
	for _, name := range s.controls {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, evidence.File{Name: "scope/controls/" + filepath.Base(name), Body: text})
	}
	return all, nil
}

// mostProofs bounds how many entries of a log are in the pack with a proof.
const mostProofs = 200

// logFiles is [logExtract] of a log in a data directory that nobody serves; of a party
// that is not there it returns nothing.
func logFiles(ctx context.Context, data, party string, w kpi.Window) ([]evidence.File, error) {
	dir := filepath.Join(data, party)
	if !hasDatabase(dir) {
		return nil, nil
	}
	signer, verifier, err := audit.LoadSigner(filepath.Join(dir, auditKeyFile))
	if err != nil {
		return nil, err
	}
	db, err := openAsIs(ctx, dir, partySchemas[party])
	if err != nil {
		return nil, err
	}
	defer db.Close()
	log, err := audit.Open(ctx, audit.Config{Store: db.Audit(), Signer: signer, Verifier: verifier, CheckpointPath: filepath.Join(dir, checkpointFile)})
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return logExtract(ctx, log, party, w)
}

// logExtract returns what the pack has of a party's open log: whether it holds, its newest
// checkpoint and public key, every entry of the window that changed something or was
// refused, and proofs of inclusion of those that an auditor asks for first.
func logExtract(ctx context.Context, log *audit.Log, party string, w kpi.Window) ([]evidence.File, error) {
	dir := filepath.Dir(log.CheckpointPath)
	outside, err := os.ReadFile(log.CheckpointPath) // before the log, which then holds all that it covers
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	verified, err := audit.Verify(ctx, log.Store, log.Verifier, outside)
	if err != nil {
		return nil, err
	}
	var extract, proofs bytes.Buffer
	proven := 0
	err = eachEntry(ctx, log, audit.Query{From: w.From, Until: w.Until}, func(e audit.Numbered) error {
		if routine(e.Entry) {
			return nil
		}
		if err := json.NewEncoder(&extract).Encode(e); err != nil {
			return err
		}
		if proven == mostProofs || !proves(e.Operation) {
			return nil
		}
		proven++
		cert, err := log.Certify(ctx, e.Sequence)
		if err != nil {
			return err
		}
		return json.NewEncoder(&proofs).Encode(cert)
	})
	if err != nil {
		return nil, err
	}
	report, err := json.MarshalIndent(logReport{Party: party, Holds: verified.OK(), Report: verified}, "", "  ")
	if err != nil {
		return nil, err
	}
	files := []evidence.File{
		{Name: "audit/" + party + "/verified.json", Body: report}, {Name: "audit/" + party + "/entries.ndjson", Body: extract.Bytes()},
		{Name: "audit/" + party + "/certificates.ndjson", Body: proofs.Bytes()},
	}
	for name, from := range map[string]string{"checkpoint": checkpointFile, "audit.key.pub": auditKeyFile + audit.VerifierSuffix} {
		text, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		files = append(files, evidence.File{Name: "audit/" + party + "/" + name, Body: text})
	}
	return files, nil
}

// proves reports whether an auditor asks for the proof of an act first: drills, what
// was shredded, and who was given or lost a right.
func proves(operation string) bool {
	return operation == revocationDrill || strings.HasPrefix(operation, "Shred") || strings.HasPrefix(operation, "RoleAssignment")
}

// routine reports whether an entry only says that something was read or used as it
// may be.
func routine(e audit.Entry) bool {
	if e.Outcome != audit.Allowed {
		return false
	}
	for _, part := range []string{"Get", "List", "Read", "KeyWrap", "KeyUnwrap", "KeyEncrypt", "KeyDecrypt", "KeySign", "KeyVerify", "UnwrapScopeShare", "lake/", "identity/tokens/"} {
		if strings.Contains(e.Operation, part) {
			return true
		}
	}
	return false
}

func evidenceVerify() *cobra.Command {
	var key, output string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an evidence pack, without a server",
		Long: `Verify an evidence pack, without a server: that every byte is as it was signed, and
that the figures in it follow from the input in it. --key is the signing key's public
part; get it from its owner, and not with the pack. The exit code is 3 if the pack
does not hold.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			verifier, err := audit.LoadVerifier(key)
			if err != nil {
				return err
			}
			archive, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			m, files, err := evidence.Open(archive, verifier)
			same := false
			if err == nil {
				same, err = evidence.Recompute(files)
			}
			if err == nil && !same {
				err = errors.New("it is as it was signed, but its figures do not follow from its input: another release may reckon otherwise")
			}
			if err != nil {
				fmt.Fprintf(c.ErrOrStderr(), "kluis: %s does not hold: %v\n", args[0], err)
				return errNotHolding
			}
			if output == "json" {
				return printJSON(c.OutOrStdout(), map[string]any{"holds": true, "signedBy": verifier.Name(), "manifest": m})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s holds: made %s by %s about %s, %d files, signed by %s; its figures follow from its input\n",
				args[0], m.Made.Format(time.RFC3339), m.Maker, m.Subject, len(m.Files), verifier.Name())
			return err
		},
	}
	c.Flags().StringVar(&key, "key", "", "the signing key's public `FILE`")
	c.MarkFlagRequired("key")
	addOutput(c, &output)
	return c
}
