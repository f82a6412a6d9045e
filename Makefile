# `make check` is what has to pass, beside the tests, before anything lands.

GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The failpoints' build is checked too: it is what the crash tests run.
TAGS = "" failpoints

.PHONY: demo test check format vet staticcheck pins bench mutation proof

demo:
	$(GO) run ./cmd/kluis demo

test:
	$(GO) test ./...

check: format vet staticcheck pins

format:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt -w wants to change:"; echo "$$out"; exit 1; fi

vet:
	@for t in $(TAGS); do $(GO) vet -tags "$$t" ./... || exit 1; done

staticcheck:
	@for t in $(TAGS); do $(GO) run $(STATICCHECK) -tags "$$t" ./... || exit 1; done

# The SQLite driver works with exactly the libc that its release names.
pins:
	@want=$$($(GO) mod download -json modernc.org/sqlite@$$($(GO) list -m -f '{{.Version}}' modernc.org/sqlite) | sed -n 's/.*"GoMod": "\(.*\)",*/\1/p' | xargs sed -n 's/.*modernc.org\/libc \(v[^ ]*\).*/\1/p' | head -1); \
	have=$$($(GO) list -m -f '{{with .Replace}}{{.Version}}{{else}}{{.Version}}{{end}}' modernc.org/libc); \
	if [ "$$want" != "$$have" ]; then echo "modernc.org/libc is $$have, and this release of modernc.org/sqlite works with $$want only"; exit 1; fi
	@$(GO) mod verify

# The load's last table is what docs/benchmarks.md has. KLUIS_LOAD_AZURITE=none leaves out Azurite, which comes from npm.
bench:
	$(GO) test -run '^$$' -bench . -benchmem ./envelope ./encryption ./vault/... ./lake
	$(GO) test -run '^$$' -bench . -benchtime 5x -timeout 1h ./test/load

# Each threat's tests, with what stands against the threat taken out: they have to fail. BREAKS="-threat T5" does one threat.
mutation:
	$(GO) run ./test/mutation $(BREAKS)

# Known flaws in what is built in, as vuln.go.dev tells them.
.PHONY: vulncheck
vulncheck:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# All promises, as evidence: docs/proof.md. It goes on where the last run stopped. EFFORT=short takes minutes, and leaves out what
# the tests do, EFFORT=medium hours; ONLY=power does one proof.
EFFORT ?= full
ONLY ?= .
proof:
	$(GO) run ./test/proof -effort $(EFFORT) -only '$(ONLY)'

# The tests of what keeps something, on PostgreSQL (or STORE=sqlite) and on Azurite (or OBJECTS=s3, versitygw; or OBJECTS= for folders).
# TESTS="-run TestDrills ./cmd/kluis" does some.
STORE ?= postgres
OBJECTS ?= azurite
.PHONY: suite
suite:
	$(GO) run ./test/engines -store $(STORE) -objects '$(OBJECTS)' -- $(TESTS)

# The end-to-end scripts with vault, platform and governance apart, and with three replicas of each. SCRIPTS=revoke does one.
SCRIPTS ?= .
.PHONY: deployments
deployments:
	KLUIS_TEST_DEPLOYMENT=apart $(GO) test -count=1 -timeout 20m ./cmd/kluis -run 'TestScripts/$(SCRIPTS)'
	KLUIS_TEST_DEPLOYMENT=replicas $(GO) test -count=1 -timeout 30m ./cmd/kluis -run 'TestScripts/$(SCRIPTS)'

# One folder with everything that is published, the same to the byte for the same commit.
VERSION ?= 0.0.0
DIST ?= dist
.PHONY: release
release:
	$(GO) run ./deploy/release -out $(DIST) -version $(VERSION) $(if $(KLUIS_RELEASE_KEY),-key $(KLUIS_RELEASE_KEY))
