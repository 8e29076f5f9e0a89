# On Debian and Ubuntu the targets install what is missing, a software Vulkan driver included; elsewhere they use what is installed.

CARGO ?= cargo
# of the library, for its tests and the tool; burn, which takes minutes to compile, has targets of its own
FEATURES := proptest,tuning
CASES := tests/cases/reference.json.gz tests/cases/monai_tests.json.gz tests/cases/combinations.json.gz \
    tests/cases/reported.json
TARGET := $(or $(CARGO_TARGET_DIR),target)
SEGLOSS := $(TARGET)/debug/segloss
# With an example, cargo takes what the tests need into account, and compiles wgpu once for both.
AS_TESTED := $(CARGO) build --features segloss/proptest,segloss/tuning -p segloss --example brain_tissue -p segloss-cli
# Mesa's EGL requires it; any writable folder works.
export XDG_RUNTIME_DIR ?= /tmp

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: demo train quick test test-adapters test-burn test-burn-plain check house permutations soak fuzz mutants deny package lint doc typos features bench peers \
    mpi tool validate validate-tools reports page page-test page-all page-tools hardware dist npm adapter drivers help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: adapter ## train a tissue classifier on a real brain volume; writes target/brain_tissue.png
	$(CARGO) run --example brain_tissue

train: adapter ## train a U-Net in burn on the brain volume; writes target/burn_unet/ (burn takes minutes to compile)
	$(CARGO) run -p burn_unet

# Everything but what takes long: the sweep of permutations, and all adapters but the best.
quick: adapter ## the inner loop: formatting, clippy, unit tests, published cases on one adapter; under a minute once compiled
	$(MAKE) lint
	$(CARGO) test --features $(FEATURES) --lib -- --skip every_pair_of_choices_a_sample
	SEGLOSS_ADAPTERS=1 $(CARGO) test --features $(FEATURES) --test kernels -- cases_run_by_monai_nnunet_and_pytorch \
	    values_printed_in_monais_own_tests what_people_reported presets_are_the_published_defaults
	$(MAKE) house

# Nearly all of the time of a test is the driver's compiler. Mesa's software driver compiles in 0.6 of it without LLVM's optimisation
# passes; `validate`, `check` and `bench` compile as a user's program does.
quick test test-adapters mutants: export GALLIVM_PERF ?= nopt

# What is claimed of every adapter is run on every one, the rest on the best.
test: adapter ## all tests on the best adapter; published cases and random specifications on every adapter
	SEGLOSS_ADAPTERS=1 $(CARGO) test --features $(FEATURES)
	$(CARGO) test --features $(FEATURES) --test kernels -- cases:: every_adapter

# `others`: all but the best adapter, and without what `make test` runs on every one
ADAPTERS ?= all

test-adapters: adapter ## all tests of kernels, callers and faults on every adapter of this machine
	SEGLOSS_ADAPTERS=$(ADAPTERS) $(CARGO) test --features $(FEATURES) --test kernels --test faults \
	    $(if $(filter others,$(ADAPTERS)),-- --skip cases:: --skip every_adapter)
	SEGLOSS_ADAPTERS=$(ADAPTERS) $(CARGO) test --features $(FEATURES) --test api \
	    $(if $(filter others,$(ADAPTERS)),-- tuning:: distributed:: threads::)

# clippy as the compiler of this workspace: what is built is linted, without a check of all dependencies, which takes minutes
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__

test-burn: adapter ## the burn bridge with burn's default features: clippy, and its tests
	$(LINTED) $(CARGO) test -p burn_unet

test-burn-plain: adapter ## the same without burn's default features, fusion and autotune among them
	$(CARGO) test -p segloss --features burn-train,testing --test burn

tool:
	$(AS_TESTED) --bin segloss

check: adapter tool ## the published implementations' cases, on every adapter of this machine
	$(SEGLOSS) check --all $(CASES)

house: ## every import of the library, resolved: none from a later room, no circle
	$(CARGO) test --features $(FEATURES) --test api -- house:: --nocapture

permutations: ## shaders of every pair of choices, of 6,000 drawn choices, and of what was broken once, through naga
	SEGLOSS_PERMUTATIONS=6000 $(CARGO) test --features $(FEATURES) --lib -- every_pair_of_choices_a_sample --nocapture

soak: adapter ## 20,000 steps, memory flat
	SEGLOSS_SOAK_STEPS=20000 $(CARGO) test --features $(FEATURES) --test soak -- --nocapture

fuzz: adapter ## random specifications, documents and bytes: twenty times the trials of `make test`
	SEGLOSS_FUZZ=20 $(CARGO) test --features $(FEATURES) --test fuzz -- --nocapture
	SEGLOSS_FUZZ=20 $(CARGO) test --features $(FEATURES) --test kernels -- --nocapture random::

mutants: adapter ## deliberate faults in the shaders, each caught by a test: docs/mutants.md
	$(CARGO) test --features $(FEATURES) --test mutants

deny: ## licences, bans and sources of all dependencies; `cargo deny check advisories` needs the network
	@$(CARGO) deny --version > /dev/null 2>&1 || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --workspace check licenses bans sources

package: ## what would be published, compiled from what it packs
	$(CARGO) package --no-metadata --no-verify -p segloss
	folder=$$(mktemp -d) && tar -xzf $$(ls -t $(TARGET)/package/segloss-*.crate | head -1) -C $$folder --strip-components 1 \
	    && $(CARGO) check --locked --target-dir $(TARGET) --manifest-path $$folder/Cargo.toml; \
	status=$$?; rm -rf $$folder; exit $$status

lint: ## formatting, clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --features $(FEATURES) -- -D warnings

typos: ## spelling, by .typos.toml
	@typos --version > /dev/null 2>&1 || $(CARGO) install typos-cli --locked
	typos

features: ## the library with each feature alone and with all, which takes burn's minutes
	@$(CARGO) hack --version > /dev/null 2>&1 || $(CARGO) install cargo-hack --locked
	$(CARGO) hack check -p segloss --each-feature

doc: ## the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps -p segloss --features $(FEATURES)

bench: adapter ## Criterion benchmarks
	$(CARGO) bench --features $(FEATURES) --bench step

PYTHON ?= python3
PEERS := target/peers

# torch.compile needs a C++ compiler: without one the compiled losses are left out.
peers: adapter ## the step in both memory formats, its floor, MONAI's and nnU-Net's losses in PyTorch: one run, one table
	$(PYTHON) -m venv $(PEERS)/venv && $(PEERS)/venv/bin/pip install -q torch monai nnunetv2
	$(CARGO) run --release -p segloss-cli -- bench --memory-format contiguous_format,channels_last --runs 15 --json $(PEERS)/peers.json \
	    --peers "$(PEERS)/venv/bin/python benches/peers/monai.py --serve"

MPI_EXAMPLE := $(TARGET)/debug/distributed_mpi
# Open MPI runs as root only with both variables; --oversubscribe lets ranks share cores
ON_RANKS := $(if $(filter 0,$(shell id -u)),OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1) \
    mpirun --oversubscribe -n
# a job that hangs is ended by `timeout`, with status 124
ENDS := ; status=$$?; echo "status $$status"; [ $$status != 0 ] && [ $$status != 124 ]

mpi: adapter ## clippy of the example with MPI; a batch over 2 and 4 MPI ranks, against one plan; then a rank that dies, which must end the job
	@if [ "$$(uname -s)" != Linux ] || ! command -v apt-get > /dev/null; then exit 0; fi; \
	if command -v mpirun > /dev/null && echo '#include <mpi.h>' | mpicc -x c -E - > /dev/null 2>&1 \
	    && ls /usr/lib/llvm-*/lib/clang/*/include/stddef.h > /dev/null 2>&1; then exit 0; fi; \
	$(SUDO) $(APT) update -qq \
	    && $(SUDO) $(APT) install -y -qq --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev
	$(LINTED) $(AS_TESTED) -p distributed_mpi --bin distributed_mpi
	$(ON_RANKS) 2 $(MPI_EXAMPLE)
	$(ON_RANKS) 4 $(MPI_EXAMPLE)
	@$(ON_RANKS:mpirun=timeout 120 mpirun) 2 $(MPI_EXAMPLE) --die 1 $(ENDS)
	@$(ON_RANKS:mpirun=timeout 120 mpirun) 4 $(MPI_EXAMPLE) --panic 2 $(ENDS)

VALIDATION ?= target/validation
TRIALS ?= 48
WHEEL := target/dxc
DXC := $(WHEEL)/compushady/backends/libdxcompiler_x86_64.so
DRIVER_FILES := /usr/share/vulkan/icd.d/lvp_icd.$(shell uname -m).json:/usr/lib/chromium/vk_swiftshader_icd.json

validate: drivers validate-tools tool ## the validation report of Mesa Vulkan, Mesa GL and SwiftShader, with every tool; writes target/validation/
	VK_ICD_FILENAMES=$(DRIVER_FILES) $(SEGLOSS) validate --all --every-tool \
	    --require "llvmpipe vulkan" --require "llvmpipe gl" --require "swiftshader vulkan" \
	    --dxc $(DXC) --cases $(CASES) --trials $(TRIALS) --out $(VALIDATION)

reports: ## the committed reports of `make validate`, made again; writes docs/validation/
	$(MAKE) validate VALIDATION=docs/validation

PAGE := target/segloss.html

page: tool ## one page that validates and measures the kernels in any browser with WebGPU; writes target/segloss.html
	mkdir -p $(dir $(PAGE))
	$(SEGLOSS) page --out $(PAGE) --cases $(CASES)

page-test: page page-tools ## the page in Chromium and in Firefox, on their software drivers; and with seeded faults, which must turn it red
	node cli/web/page_test.mjs $(PAGE) --save target/page --segloss $(SEGLOSS)
	$(SEGLOSS) validate --compare target/page/chromium-validation.json target/page/firefox-validation.json
	$(SEGLOSS) bench --compare target/page/chromium-bench.json target/page/firefox-bench.json

page-all: page page-tools ## everything of the page in both browsers, in the variants of hardware and of software
	node cli/web/page_test.mjs $(PAGE) --all

page-tools: npm
	@if ! command -v apt-get > /dev/null; then exit 0; fi; \
	for browser in chromium firefox-esr; do command -v $$browser > /dev/null \
	    || { $(SUDO) $(APT) update -qq && $(SUDO) $(APT) install -y -qq --no-install-recommends $$browser; }; done

hardware: drivers page-test ## the lines of docs/hardware of this machine's browsers and adapters; writes docs/hardware/
	for backend in vulkan gl; do \
	    VK_ICD_FILENAMES=$(DRIVER_FILES) $(SEGLOSS) validate --adapter llvmpipe --backend $$backend --trials 8 --out target/hardware/$$backend --cases $(CASES) \
	        && cp target/hardware/$$backend/validation.json docs/hardware/llvmpipe-$$backend-validation.json \
	        && $(SEGLOSS) bench --adapter llvmpipe --backend $$backend --shape 1x4x64x64x64 --json docs/hardware/llvmpipe-$$backend-bench.json || exit 1; done
	cp target/page/*-*.json docs/hardware/
	$(SEGLOSS) hardware

DIST := segloss-$(shell sed -n 's/^version = "\(.*\)"/\1/p' cli/Cargo.toml | head -1)-$(shell uname -s | tr A-Z a-z)-$(shell uname -m)

dist: ## the tool for this platform, with the cases and the page, for those without Rust; writes target/dist/
	$(CARGO) build --release -p segloss-cli
	rm -rf target/dist/$(DIST) && mkdir -p target/dist/$(DIST)/cases
	cp $(TARGET)/release/segloss LICENSE-MIT LICENSE-APACHE target/dist/$(DIST)/
	strip target/dist/$(DIST)/segloss
	cp $(CASES) target/dist/$(DIST)/cases/
	cp cli/DIST.md target/dist/$(DIST)/README.md
	target/dist/$(DIST)/segloss page --out target/dist/$(DIST)/segloss.html --cases $(CASES)
	tar -C target/dist -czf target/dist/$(DIST).tar.gz $(DIST)
	@ls -l target/dist/$(DIST).tar.gz

npm:
	@if ! command -v npm > /dev/null; then $(SUDO) $(APT) update -qq && $(SUDO) $(APT) install -y -qq nodejs npm; fi
	npm ci --prefix cli/web --no-audit --no-fund --silent

# spirv-val from Debian; Tint and Dawn from npm; Microsoft's DXC for Linux from a PyPI package.
validate-tools: npm
	@if ! command -v spirv-val > /dev/null; then $(SUDO) $(APT) update -qq && $(SUDO) $(APT) install -y -qq spirv-tools; fi
	test -f $(DXC) || { $(PYTHON) -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 \
	    --platform manylinux_2_28_x86_64 -d $(WHEEL) compushady-lrtu==0.18.0 \
	    && $(PYTHON) -m zipfile -e $(WHEEL)/*.whl $(WHEEL); }

# A Vulkan loader and at least one driver, or Mesa's software driver where there is none. macOS and Windows have their own.
adapter:
	@if [ "$$(uname -s)" != Linux ] || ! command -v apt-get > /dev/null; then exit 0; fi; \
	if ldconfig -p | grep -q libvulkan.so.1 \
	    && ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json 2> /dev/null | grep -q . ; then exit 0; fi; \
	echo "no Vulkan driver: installing Mesa's software driver"; \
	$(SUDO) $(APT) update -qq && $(SUDO) $(APT) install -y -qq mesa-vulkan-drivers libvulkan1

# Three software drivers: Mesa's Vulkan and GL, and SwiftShader, which Debian ships inside Chromium.
drivers: adapter
	@if ! ls /usr/lib/chromium/libvk_swiftshader.so /usr/lib/*/dri/swrast_dri.so /usr/lib/*/libEGL.so.1 > /dev/null 2>&1; then \
	$(SUDO) $(APT) update -qq && $(SUDO) $(APT) install -y -qq --no-install-recommends chromium libegl1 libgl1-mesa-dri; fi
