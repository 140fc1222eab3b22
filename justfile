# The steps of .ci/run, one by one. `just` alone lists them.

_list:
    @just --list --unsorted

# Run the gateway
run *arguments:
    cargo run --release -- {{arguments}}

# Run it beside a simulated WhatsApp: no phone, no internet
sandbox *arguments:
    cargo run --example sandbox -- {{arguments}}

# All tests
test:
    cargo test --workspace

# The documents' curl lines and the React page, beside a live daemon; after `just test`, which builds it
seeds:
    WAGATE=$PWD/target/debug/wagate SIMULATOR=$PWD/target/debug/wagate-simulator sh tests/seeds/run.sh

# Format
fmt:
    cargo fmt --all

# What clippy has to say
clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# The documentation, ours only, private parts too
doc:
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --lib --examples

# Whether systemd can read the units, and how much it thinks they are exposed; after `just test`, which builds the program
units:
    systemd/check.sh target/debug/wagate

# The Debian package, tried in a copy of this system; after `just test`
package:
    python3 packaging/prepare.py target/debug/wagate >/dev/null
    sudo -E packaging/test.sh target/debug/wagate
    sudo -E packaging/systemd.sh target/debug/wagate

# That the production build cannot be pointed at anything but WhatsApp
production:
    cargo build -p wagate -p wagate-production --bins
    cargo test -p wagate-production --test production

# Licences, duplicate crates, banned crates
deny:
    packaging/deny.sh

# Keep cargo from building the WhatsApp client twice; once after the first build of a fresh target
settle:
    find target -path '*/build/waproto-*/out/whatsapp.local.desc' -exec touch -d 2020-01-01 {} +

# Everything that must hold before a change lands
ci:
    .ci/run
