package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A state is what all runs have found so far.
type state struct {
	Records []record `json:"records"`
}

// A record is one round of one step.
type record struct {
	Proof   string                   `json:"proof"`
	Step    string                   `json:"step"`
	Commit  string                   `json:"commit"` // "+changes" is appended if the tree differed from it
	Effort  string                   `json:"effort"`
	Machine string                   `json:"machine"`
	Command string                   `json:"command"`
	Began   time.Time                `json:"began"`
	Seconds float64                  `json:"seconds"`
	OK      bool                     `json:"ok"`
	Names   []string                 `json:"names,omitempty"`   // the figures', in their order
	Counts  map[string]int64         `json:"counts,omitempty"`  // to be added up, but for those of [greatest]
	Longest map[string]time.Duration `json:"longest,omitempty"` // of which the greatest counts
	Skipped []string                 `json:"skipped,omitempty"` // what tests said that they lack
	Tail    string                   `json:"tail,omitempty"`    // of the output of what failed
}

func readState(name string) (*state, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{}, nil
	}
	if err != nil {
		return nil, err
	}
	s := &state{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func (s *state) write(name string) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// done returns how many rounds of a step have held at a commit.
func (s *state) done(proof, step, commit string) (n int) {
	if strings.HasSuffix(commit, changes) {
		return 0 // nobody knows what of
	}
	for _, r := range s.Records {
		if r.Proof == proof && r.Step == step && r.Commit == commit && r.OK {
			n++
		}
	}
	return n
}

const changes = "+changes"

// commit names the source.
func commit(ctx context.Context) (string, error) {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("git rev-parse: %w", err)
	}
	status, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ".", ":!docs/proof.*").Output()
	if err != nil {
		return "", fmt.Errorf("git status: %w", err)
	}
	at := strings.TrimSpace(string(head))
	if len(bytes.TrimSpace(status)) > 0 {
		at += changes
	}
	return at, nil
}

// A Step is a command, and how often it is run.
type Step struct {
	Name   string
	Env    []string
	Args   []string
	Rounds int           // 0 for once
	Limit  time.Duration // 0 for two hours
}

func (s Step) rounds() int { return max(1, s.Rounds) }

const maxTail = 4 << 10

// run runs the step once. What it says is written to the file of that name as well, unless
// that is "".
func (s Step) run(ctx context.Context, log string) record {
	limit := s.Limit
	if limit == 0 {
		limit = 2 * time.Hour
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.WaitDelay = 10 * time.Second
	r := record{Step: s.Name, Machine: machine(), Began: time.Now().UTC().Truncate(time.Second), Command: s.command()}
	var out bytes.Buffer
	cmd.Stdout = &out
	if log != "" {
		f, err := os.Create(log)
		if err != nil {
			r.Tail = err.Error()
			return r
		}
		defer f.Close()
		cmd.Stdout = io.MultiWriter(&out, f)
	}
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	r.Seconds = time.Since(r.Began).Seconds()
	r.read(out.String())
	if r.Counts["inputs"] > 0 && cmd.ProcessState != nil { // what other work on the machine has left for it
		r.figure("cpu-seconds-with-compilation", strconv.Itoa(int((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())))
	}
	r.OK = err == nil
	if skipped := skipTest.FindString(out.String()); skipped != "" && err == nil {
		err = fmt.Errorf("it proves nothing: %s", skipped)
		r.OK = false
	}
	if err != nil {
		r.Tail = fmt.Sprintf("%s%s%v", said(out.Bytes()), out.Bytes()[max(0, out.Len()-maxTail):], err)
	}
	return r
}

// said is what the tests themselves said last, which a server's goroutines may have pushed
// far from the output's end; "" if that holds it all.
func said(out []byte) string {
	if len(out) <= maxTail {
		return ""
	}
	lines := testLine.FindAll(out[:len(out)-maxTail], -1)
	var b strings.Builder
	for _, l := range lines[max(0, len(lines)-20):] {
		fmt.Fprintf(&b, "%.400s\n", l)
	}
	return b.String() + "…\n"
}

// logFile is where what a step says is kept in a folder, if it is.
func (s Step) logFile(dir string, began time.Time) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, notInNames.ReplaceAllString(s.Name, "-")+"-"+began.UTC().Format("20060102T150405")+".log")
}

// command is the step as it is typed.
func (s Step) command() string {
	return strings.Join(append(slices.Clone(s.Env), s.Args...), " ")
}

var (
	figureLine = regexp.MustCompile(`(?m)\bproof:((?: [a-z0-9-]+=[^ \n]+)+)`)
	fuzzLine   = regexp.MustCompile(`(?m)^fuzz: elapsed: (\S+), execs: (\d+)`)
	testLine   = regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: .*$`)
	notInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)
	skipTest   = regexp.MustCompile(`(?m)^--- SKIP: .*$`) // a whole test
	skipLine   = regexp.MustCompile(`(?m)\bSKIPPED\b.*$`)
)

// read takes the figures from a command's output.
func (r *record) read(out string) {
	r.Counts, r.Longest = map[string]int64{}, map[string]time.Duration{}
	for _, line := range figureLine.FindAllStringSubmatch(out, -1) {
		for _, f := range strings.Fields(line[1]) {
			name, value, _ := strings.Cut(f, "=")
			r.figure(name, value)
		}
	}
	if lines := fuzzLine.FindAllStringSubmatch(out, -1); len(lines) > 0 {
		last := lines[len(lines)-1]
		if d, err := time.ParseDuration(last[1]); err == nil {
			r.figure("seconds", strconv.Itoa(int(d.Seconds())))
		}
		r.figure("inputs", last[2])
	}
	for _, s := range skipLine.FindAllString(out, -1) {
		if !slices.Contains(r.Skipped, s) {
			r.Skipped = append(r.Skipped, s)
		}
	}
}

// greatest ends the names of counts of which the greatest counts, and not their sum: bounds,
// and how many there are of what each round finds again.
var greatest = regexp.MustCompile("-(at-most|in-all)$")

func add(counts map[string]int64, name string, n int64) {
	if greatest.MatchString(name) {
		counts[name] = max(counts[name], n)
	} else {
		counts[name] += n
	}
}

func (r *record) figure(name, value string) {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		add(r.Counts, name, n)
	} else if d, err := time.ParseDuration(value); err == nil {
		r.Longest[name] = max(r.Longest[name], d)
	} else {
		return
	}
	if !slices.Contains(r.Names, name) {
		r.Names = append(r.Names, name)
	}
}
