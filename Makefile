# On Debian and Ubuntu these install what is missing, a software Vulkan driver included; elsewhere they use what is there.

CARGO ?= cargo
CASES := tests/cases/reference.json.gz tests/cases/monai_tests.json.gz tests/cases/combinations.json.gz
# Mesa's EGL asks for it; any writable folder will do.
export XDG_RUNTIME_DIR ?= /tmp

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: demo test check soak fuzz lint doc bench peers adapter drivers drivers-check help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: adapter ## train a tissue classifier on a real brain volume; writes target/brain_tissue.png
	$(CARGO) run --example brain_tissue

test: adapter ## all tests, on every adapter of this machine
	$(CARGO) test --features cli

check: adapter ## the published implementations' cases, on every adapter of this machine
	$(CARGO) run --features cli -- check --all $(CASES)

soak: adapter ## 20,000 steps, memory flat
	SEGLOSS_SOAK_STEPS=20000 $(CARGO) test --features cli --test soak -- --nocapture

fuzz: adapter ## random specifications, documents and bytes: twenty times the trials of `make test`
	SEGLOSS_FUZZ=20 $(CARGO) test --features cli --test fuzz -- --nocapture

lint: ## formatting, clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --features cli -- -D warnings

doc: ## the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features cli

bench: adapter ## Criterion benchmarks
	$(CARGO) bench --features cli --bench step

PYTHON ?= python3
PEERS := target/peers

peers: adapter ## the step beside MONAI's and nnU-Net's losses in PyTorch, one table
	$(PYTHON) -m venv $(PEERS)/venv && $(PEERS)/venv/bin/pip install -q torch monai nnunetv2
	$(CARGO) run --release --features cli -- bench --json $(PEERS)/segloss.json
	$(PEERS)/venv/bin/python benches/peers/monai.py --json $(PEERS)/pytorch.json
	$(CARGO) run --release --features cli -- bench --compare $(PEERS)/segloss.json $(PEERS)/pytorch.json

# A Vulkan loader and at least one driver, or Mesa's software driver where there is none. macOS and Windows bring their own.
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

drivers-check: drivers ## the cases on Mesa Vulkan, Mesa GL and SwiftShader, each by name
	$(CARGO) run --features cli -- check --backend vulkan --adapter llvmpipe $(CASES)
	$(CARGO) run --features cli -- check --backend gl --adapter llvmpipe $(CASES)
	VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json \
	    $(CARGO) run --features cli -- check --backend vulkan --adapter swiftshader $(CASES)
