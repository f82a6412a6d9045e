package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Proof is a promise, and the commands that try to break it.
type Proof struct {
	Name    string
	Promise string
	How     string // what is done
	LeftOut string // what it does not show
	Goal    string // of a release, if there is one
	Same    bool   // each round finds the same: of each step the newest counts alone
	Short   []Step // what go test does not do by itself, in minutes
	Full    []Step // all, in hours
}

func (p Proof) short() []Step { return p.Short }
func (p Proof) full() []Step  { return p.Full }

// medium is all that full is, but each once, as often as CI repeats what chance decides,
// and half a minute for each fuzz target.
func (p Proof) medium() (steps []Step) {
	if p.Name == "fuzzing" {
		return fuzzing(30 * time.Second)
	}
	for _, s := range p.Full {
		s.Rounds = 1
		s.Env = slices.DeleteFunc(slices.Clone(s.Env), func(v string) bool { return v == fullEffort })
		if p.Name == "soak" {
			s.Env = []string{"CI=true", "KLUIS_SOAK=1h"}
		}
		steps = append(steps, s)
	}
	return steps
}

const (
	fullEffort = "KLUIS_EFFORT=full"
	inMemory   = "TMPDIR=/dev/shm" // where the disk decides nothing
	fuzzTime   = 5 * time.Minute   // of each target
)

// test is a step that runs tests of a package with full effort.
func test(pkg, pattern string, env ...string) Step {
	return Step{
		Name: strings.TrimPrefix(pkg, "./") + " " + strings.Trim(pattern, "^$"),
		Env:  append([]string{"CI=true", fullEffort}, env...),
		Args: []string{"go", "test", "-count=1", "-v", "-timeout", "12h", "-run", pattern, pkg}, Limit: 12 * time.Hour,
	}
}

// beside is a step whose tests run so many side by side.
func beside(n int, s Step) Step {
	s.Args = slices.Insert(slices.Clone(s.Args), 2, "-parallel", fmt.Sprint(n))
	return s
}

// times is a step repeated.
func times(n int, s Step) Step {
	s.Rounds = n
	return s
}

func proofs() []Proof {
	return []Proof{
		{
			Name:    "threats",
			Same:    true,
			Promise: "each threat's tests notice when what stands against it is gone",
			How:     "Breaks are taken into the source by an overlay, one at a time, and the named test has to fail; unbroken it has to pass. [threats.md](threats.md) lists all.",
			LeftOut: "what [threats.md](threats.md) names at its end",
			Short:   []Step{{Name: "a break of each threat", Args: []string{"go", "run", "./test/mutation", "-quick"}}},
			Full:    allBreaks(),
		},
		{
			Name:    "power",
			Promise: "no acknowledged write is lost when the power goes, and nothing is half there",
			How: "All that ext4 sends to two disks, rows on one and extents on the other, is recorded beneath it while the server starts, files of all sizes are uploaded, replaced and deleted, keys made and rotated, and the server ends. Each cut leaves what had been flushed at a moment of that record, and any part of what had not, any blocks of a write included; the real ext4 mounts it, the real server starts over it, and what clients had been told by then is looked for: the newest version of each file whole, a deleted one gone, a key signing, and fsck at every tenth cut (test/system TestRecordedPowerCuts). A disk that has lost what it said was flushed is noticed. " +
				"Cuts at the moment itself, by ext4's own shutdown on loop devices (TestPowerCuts); cuts in a model of a disk that drops or keeps anything that was not flushed, in any order, at every call (objstore/local TestPowerCut); every call of the file system fails once, before or after it has happened (TestEveryCallFails).",
			LeftOut: "torn blocks of 4 KiB, and disks that lose what they said they had flushed. A write that a disk was still at when a flush came counts as flushed. In TestPowerCuts, acknowledgements that come while the kernel is cutting, some milliseconds, count as unknown: it then tells waiters of a flush that it gives up; the record leaves none out",
			Goal:    "10,000 cuts of ext4 and 100,000 in the model",
			Full: []Step{
				times(10, beside(8, test("./test/system", "^TestRecordedPowerCuts$", "KLUIS_RECORDED_CUTS=1000", "KLUIS_RIGS=4"))),
				times(5, test("./test/system", "^TestPowerCuts$", "KLUIS_POWER_CUTS=100")),
				test("./objstore/local", "^TestPowerCut$", inMemory),
				test("./objstore/local", "^TestEveryCallFails$", inMemory),
			},
		},
		{
			Name:    "kills",
			Promise: "no acknowledged write, rotation or switch of a key is lost to kill -9",
			How: "The real server is killed at any moment of uploads, rotations and switches of a key, and started again (test/system TestKills). After each kill every file is read: it is whole, and no older than the newest version that was acknowledged; a key that was switched off before a kill is off after it; after each hundred all else that was ever written is read, the key has every version whose making was acknowledged, and fsck finds nothing. " +
				"One of three replicas on one PostgreSQL is killed while clients write at all of them, and all that any of them had acknowledged is at once there at another (TestKillsOfReplicas); fsck in the end.",
			LeftOut: "what the kernel holds for a process survives its kill: that is what the cuts above are for. Rotations are asked for in one round of ten, switches in one of twenty",
			Goal:    "10,000 kills",
			Full: []Step{
				times(10, beside(8, test("./test/system", "^TestKills$", "KLUIS_KILLS=1000", "KLUIS_RIGS=4", inMemory))),
				times(5, test("./test/system", "^TestKillsOfReplicas$", "KLUIS_REPLICA_KILLS=100", inMemory)),
			},
		},
		{
			Name:    "failpoints",
			Promise: "a crash, an error, an error of what has happened, or a hang at any failpoint loses nothing, and the work resumes",
			How:     "The server is armed at each failpoint in turn while it is taken through everything that it does (test/system TestFailpoints), and through changes of keys (TestCrash); what it does after weeks, and what a command does, is crashed by itself (TestCrashWhenDue, TestAlertCrash, TestRestoreCrash). None may be reached by no scenario.",
			LeftOut: "points of PostgreSQL's store, which its own tests crash at (store/postgres)",
			Goal:    "all failpoints, each with every action",
			Full: append(strikes(8),
				test("./test/system", "^TestCrash$"),
				test("./test/system", "^TestCrashUploads$"),
				test("./test/system", "^TestCrashBetweenMakingAndKeeping$"),
				test("./test/system", "^(TestOutletsCrash|TestCrashWhenDue|TestAlertCrash|TestRestoreCrash)$"),
			),
		},
		{
			Name:    "models",
			Promise: "key state, rights and objects behave as small models say, whatever comes when",
			How: "Random histories of custodian, administrator, writers, faults and crashes in virtual time against a model (encryption TestHistories); random roles, policies and networks against a model of a list and a loop (vault TestAuthorizationAgainstModel); random operations on a tree (lake TestModel); " +
				"every state that the protocol of a change of wraps can reach with two replicas, three versions and a crash anywhere (encryption TestEveryStateOfAWrapChange); histories of concurrent clients of the real server, who write and read objects, switch a key, and give and take away roles at the vault and in a workspace, under kill -9 and a vault that goes away, checked for linearizability by Porcupine (test/system TestLinearizable), and of clients each at one of three replicas while those are killed or stand still, their database crashes, and the vault is out of reach (TestLinearizableReplicas).",
			LeftOut: "rights that come with a group",
			Goal:    "100,000 histories of each, 200 linearizable minutes",
			Full: []Step{
				times(10, histories(5_000)),
				test("./vault", "^TestAuthorizationAgainstModel$"),
				test("./lake", "^TestModel$"),
				test("./rbac", "^TestAllowedIsTheModel$"),
				test("./encryption", "^TestEveryStateOfAWrapChange$"),
				times(20, test("./test/system", "^TestLinearizable$")),
				times(20, test("./test/system", "^TestLinearizableReplicas$", "KLUIS_LINEARIZABLE=60s")),
			},
		},
		{
			Name:    "revocation",
			Promise: "no plaintext later than 5 s after the act, by any way to revoke, at any replica; nothing of the keys stays in memory",
			How: "A reader that never pauses notes the last byte (test/system TestRevocation); 20 workspaces, each under a key of its own, under 50 readers (TestRevocationDistribution); 50 readers of whole files, ranges and listings (TestRevocationWhileStreaming); every way to revoke and to restore that there is at a vault (TestWays); the same ways, 1,000 times, at 20 vaults whose workspaces 50 readers read at three replicas on one PostgreSQL and one S3 store, where the last byte at any of them counts (TestRevocationAtReplicas), and 140 times where the vaults have no change feed, as foreign ones have none: the platform asks at half of each lease, and the bound is 60 s (TestRevocationOfForeignVaults); a key that expires is no way to revoke: it keeps reading, nothing new goes under it, and a scan finds it (TestExpiryIsNotRevocation); the process's memory is searched for the keys that were dropped (encryption TestKeysLeaveMemory). " +
				"Each counts from when the custodian's call returned.",
			LeftOut: "vaults whose own changes take time to reach them, where the bound counts from the vault's first no; AES key schedules in memory",
			Goal:    "1,000 revocations, at most 5 s, and 60 s with foreign vaults",
			Full: []Step{
				test("./test/system", "^TestRevocationAtReplicas$", "KLUIS_REVOCATIONS=1000"),
				test("./test/system", "^TestRevocationOfForeignVaults$", "KLUIS_REVOCATIONS=140"),
				times(2, test("./test/system", "^TestRevocationDistribution$")),
				times(3, test("./test/system", "^TestRevocation$")),
				times(5, test("./test/system", "^TestRevocationWhileStreaming$")),
				times(3, test("./test/system", "^TestWays$")),
				test("./test/system", "^TestExpiryIsNotRevocation$"),
				test("./encryption", "^TestKeysLeaveMemory$"),
			},
		},
		{
			Name:    "network",
			Promise: "a vault that lies, or a network that fails, is no answer: never a yes, never a no",
			How: "A scripted vault lies in every way at every step of the protocol (kek TestLies, TestAnswers; encryption TestLyingVault, TestRotateToABadVersion); toxiproxy delays, cuts, slices and silences what goes between platform and vault (kek TestNetworkFaults); " +
				"a vault that is cut off keeps serving for its lease and no longer (test/system TestVaultUnreachable). Between three replicas and their PostgreSQL and S3 store, for one replica and for all, toxiproxy is slow, resets, cuts, swallows everything, or does not listen, under load, while the key is switched off: no acknowledged write is lost, nothing is read for longer than a lease, and all go on by themselves (TestReplicasNetwork).",
			LeftOut: "a switch of the key while no replica reaches the database, in which the vault lies too",
			Full: []Step{
				test("./kek", "^(TestLies|TestAnswers|TestNetworkFaults)$"),
				test("./encryption", "^(TestLyingVault|TestRotateToABadVersion|TestUnreachable)$"),
				test("./test/system", "^TestVaultUnreachable$"),
				test("./test/system", "^TestReplicasNetwork$", "KLUIS_NETWORK=all"),
			},
		},
		{
			Name:    "secrecy",
			Promise: "nothing of a tenant's is readable at rest or in a log; damaged or moved ciphertext never opens",
			How:     "Canaries in every field of every API are searched for in all files and in the log at its most talkative, base64 included (test/system TestCanaries, lake TestCanaries); random damage to messages, and every swap between places (envelope).",
			LeftOut: "what [SECURITY.md](../SECURITY.md) says stays visible",
			Goal:    "1,000,000 mutations, none accepted",
			Full: []Step{
				test("./test/system", "^TestCanaries$"),
				test("./lake", "^TestCanaries$"),
				test("./envelope", "^(TestRandomMutations|TestMutationSweep|TestSwapBetweenPlaces)$"),
			},
		},
		{
			Name:    "conformance",
			Same:    true,
			Promise: "algorithms and formats are the published ones",
			How:     "Wycheproof's vectors through the vault's own operations and the token verifier, each file's count asserted, each vector that is left out for a stated reason (KLUIS_TESTDATA names their folder); the published vectors of the sealed format.",
			LeftOut: "NIST's CAVP sets",
			Full: []Step{
				test("./vault", "^TestWycheproof$"),
				test("./identity", "^TestWycheproof$"),
				test("./envelope", "Vectors"),
			},
		},
		{
			Name:    "fuzzing",
			Promise: "no input of a stranger's crashes, hangs or exhausts a parser",
			How:     "Every fuzz target of the repository in turn, under a limit of memory and with Go's own limit of time per input; what was found is kept as a test case in testdata/fuzz.",
			LeftOut: "targets of other modules in test/",
			Goal:    "100 hours of CPU",
			Full:    fuzzing(fuzzTime),
		},
		{
			Name:    "fips",
			Same:    true,
			Promise: "the FIPS flavour builds, and passes what applies to it",
			How:     "GOFIPS140=v1.0.0 builds the certified module in, and the suites of all packages that touch keys run with fips140=on; those that seal nothing run with fips140=only too.",
			LeftOut: "fips140=only for all that seals: the sealed format has nonces that count, under a key for each message ([format.md](format.md)), and in that mode Go refuses AES-GCM with any nonce that the module has not drawn itself. In TestNetworkFaults it is a library of toxiproxy's that takes an MD5. P-256K, which no certified module has",
			Short:   []Step{fips("on", "./envelope", "./root", "./encryption", "./kek", "./vault/softkey", "./identity")},
			Full: append(fipsEach("on", "./envelope", "./root", "./encryption", "./kek", "./vault/...", "./identity", "./audit/...", "./witness", "./rbac", "./lake", "./workspace/...", "./account", "./store/sqlite", "./objstore/local", "./api/...", "./portal/session", "./internal/...", "./cmd/kluis"),
				fips("only", "./audit", "./witness", "./rbac", "./internal/webhook"),
			),
		},
		{
			Name:    "upgrade",
			Same:    true,
			Promise: "a data folder of any release opens, reads and goes on",
			How:     "The golden data folders in test/system/testdata/golden, one a release, are served, read, rotated, reset, assigned and checked (test/system TestUpgrade).",
			LeftOut: "going back to an older version, which refuses a newer schema",
			Full:    []Step{test("./test/system", "^TestUpgrade$")},
		},
		{
			Name:    "soak",
			Promise: "hours of work and faults leave memory, goroutines and data as they were",
			How: "Readers and writers for hours, the key rotated each hour, and every five minutes a kill with fsck after it, a stop, or a revocation (test/system TestSoak). The same with three replicas on one PostgreSQL and one S3 store (TestSoakReplicas): one is killed, one stands still for longer than its lease, the database crashes, the store fails, or the key is switched off and on, all under load; fsck each hour. " +
				"In an hour of soak, what is said of hours holds of quarters of it.",
			LeftOut: "the disk's slope over weeks, since replaced extents stay for the backup horizon of seven days",
			Goal:    "72 hours",
			Full: []Step{
				times(12, test("./test/system", "^TestSoakReplicas$", "KLUIS_SOAK=6h")),
				times(12, test("./test/system", "^TestSoak$", "KLUIS_SOAK=6h")),
			},
		},
		{
			Name:    "reproducible",
			Same:    true,
			Promise: "who builds the same source gets the same binary",
			How:     "The binary is built twice, from two folders of different names, without the build cache's help, and compared byte by byte.",
			LeftOut: "another machine, and packages",
			Full:    []Step{{Name: "two builds", Args: []string{"sh", "test/proof/twice.sh"}}},
		},
	}
}

// histories is a step that plays so many histories with a change feed, and as many without.
func histories(n int) Step {
	s := test("./encryption", "^TestHistories$")
	s.Args = append(s.Args, fmt.Sprint("-rapid.checks=", n))
	return s
}

// strikes are steps that strike all failpoints with all actions, in so many parts.
func strikes(parts int) (steps []Step) {
	for i := range parts {
		s := test("./test/system", "^TestFailpoints$", fmt.Sprintf("KLUIS_STRIKES=%d/%d", i, parts))
		s.Name += fmt.Sprintf(", part %d of %d", i+1, parts)
		steps = append(steps, s)
	}
	return steps
}

// fips is a step that runs suites in the FIPS flavour.
func fips(mode string, packages ...string) Step {
	return Step{
		Name: "suites with fips140=" + mode, Env: []string{"GOFIPS140=v1.0.0", "GODEBUG=fips140=" + mode},
		Args: append([]string{"go", "test", "-count=1", "-timeout", "1h"}, packages...),
	}
}

// fipsEach is such a step for each package or tree of them.
func fipsEach(mode string, packages ...string) (steps []Step) {
	for _, p := range packages {
		s := fips(mode, p)
		s.Name = strings.TrimPrefix(p, "./") + " with fips140=" + mode
		steps = append(steps, s)
	}
	return steps
}

// allBreaks is a step for each threat.
func allBreaks() (steps []Step) {
	for n := range threats {
		name := fmt.Sprint("T", n+1)
		steps = append(steps, Step{Name: "all breaks of " + name, Args: []string{"go", "run", "./test/mutation", "-threat", name}})
	}
	return steps
}

const threats = 26 // of the design

var fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// fuzzMemory is the most address space of a target, in KiB.
const fuzzMemory = 8 << 20

// fuzzing is a step for each fuzz target, for as long as is given.
func fuzzing(each time.Duration) (steps []Step) {
	filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if path != "." && (err == nil || strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzTarget.FindAllSubmatch(text, -1) {
			pkg, name := "./"+filepath.Dir(path), string(m[1])
			steps = append(steps, Step{
				Name:  strings.TrimPrefix(pkg, "./") + " " + name,
				Args:  []string{"sh", "-c", fmt.Sprintf("ulimit -v %d; exec go test -run '^$' -fuzz '^%s$' -fuzztime %s -fuzzminimizetime 5s -timeout 12h %s", fuzzMemory, name, each, pkg)},
				Limit: each + 10*time.Minute,
			})
		}
		return nil
	})
	return steps
}
