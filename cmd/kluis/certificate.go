package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/drill"
)

func certificateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certificate",
		Short: "Verify what an audit log has certified",
	}
	var key, output string
	verify := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a shredding certificate or a drill's evidence, without a server",
		Long: `Verify a shredding certificate or a drill's evidence, without a server.

The file holds an entry of an audit log and the proof that a checkpoint covers it,
signed by the log's key: --key is the log's public one, audit.key.pub in the party's
folder. Get it from somebody whom you trust, and not with the certificate.
The exit code is 3 if the certificate does not hold.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			verifier, err := audit.LoadVerifier(key)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			cert, err := readCertificate(text)
			var head audit.Checkpoint
			if err == nil {
				head, err = cert.Verify(verifier)
			}
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "kluis: %s does not hold: %v\n", args[0], err)
				return errNotHolding
			}
			if output == "json" {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(map[string]any{"holds": true, "log": head.Origin, "checkpointSize": head.Size, "sequence": cert.Sequence, "entry": cert.Entry})
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "HOLDS\tLOG\tENTRY\tTIME\tOPERATION\tRESOURCE")
			fmt.Fprintf(t, "true\t%s\t%d\t%s\t%s\t%s\n", head.Origin, cert.Sequence, when(cert.Entry.Time), cert.Entry.Operation, cert.Entry.Resource)
			return t.Flush()
		},
	}
	verify.Flags().StringVar(&key, "key", "", "the log's public key `FILE`")
	verify.MarkFlagRequired("key")
	addOutput(verify, &output)
	cmd.AddCommand(verify)
	return cmd
}

// readCertificate reads a certificate, or that of a drill's evidence, whose entry
// must then be about the report beside it.
func readCertificate(text []byte) (cert audit.Certificate, err error) {
	var e drill.Evidence
	if err := json.Unmarshal(text, &e); err != nil {
		return cert, err
	}
	if e.Report == nil {
		err := json.Unmarshal(text, &cert)
		return cert, err
	}
	if err := json.Unmarshal(e.Certificate, &cert); err != nil {
		return cert, err
	}
	var report bytes.Buffer
	if err := json.Compact(&report, e.Report); err != nil {
		return cert, err
	}
	sum := sha256.Sum256(report.Bytes())
	if cert.Entry.Detail["sha256"] != hex.EncodeToString(sum[:]) {
		return cert, errors.New("the report is not the one that was recorded")
	}
	return cert, nil
}
