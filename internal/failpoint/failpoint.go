// Package failpoint names the places where a crash or an I/O failure must be
// harmless, so that tests can make one happen there.
//
// A package declares its points as variables and passes each at the step it
// names:
//
//	var afterWrap = failpoint.New("encryption/rotate/after-wrap")
//	...
//	if err := afterWrap.Hit(); err != nil {
//		return err
//	}
//
// In an ordinary build a point is empty and Hit costs nothing. Built with the
// tag "failpoints", the variable KLUIS_FAILPOINTS arms points by name:
//
//	KLUIS_FAILPOINTS="encryption/rotate/after-wrap=exit;objstore/local/put/synced=error:2"
//
// The actions are exit (as kill -9 would, status 137), error, once (an error at one
// passage alone), and pause (until the process is killed). A number after a colon arms
// the point from its Nth passage on; without it from the first. A point stands after
// the step that it names as a rule, so that its error is that of something that has
// happened.
//
// KLUIS_FAILPOINTS_TRACE names a file to which each point that is passed is added, in a
// line of its own, when it is passed for the first time.
package failpoint
