# wagate in a container: nothing in it but the program, certificates and a user without rights.
#
#   docker build -t wagate --build-arg WAGATE_REVISION=$(git rev-parse --short=12 HEAD) .
#   docker run -d --name wagate --stop-timeout 60 -p 127.0.0.1:8080:8080 -v wagate:/var/lib/wagate wagate
#   docker exec wagate wagate doctor
#   docker run --rm -v wagate:/state:ro busybox cat /state/operator.token
#
# There is no shell to ask the daemon from within: probe it from outside, as Kubernetes does. Alive is GET /livez,
# ready is GET /readyz, both without a token, on the port below or (WAGATE_HTTP__ADMIN_LISTEN) on one of their own.
FROM rust:1.95.0-slim-bookworm AS build
# The one that is in it, and none that rustup would fetch for rust-toolchain.toml: clippy builds nothing here.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make python3 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# What `wagate --version` says beside the version; there is no repository in here to ask.
ARG WAGATE_REVISION=
RUN cargo build --locked --profile dist --bin wagate && mkdir -p /empty && ls -l target/dist/wagate
# The licences of all that is linked in, and the list of it.
RUN python3 packaging/prepare.py target/dist/wagate

# glibc, libgcc and certificates; its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/dist/wagate /usr/bin/wagate
COPY --from=build /build/LICENSE /build/packaging/AGPL-3.0.txt /build/packaging/made/third-party-licences.txt.gz \
    /build/packaging/made/wagate.cdx.json /usr/share/doc/wagate/
COPY --from=build --chown=65532:65532 --chmod=0700 /empty /var/lib/wagate
ENV WAGATE_STATE_DIR=/var/lib/wagate WAGATE_HTTP__LISTEN=0.0.0.0:8080 WAGATE_LOG__FORMAT=json
USER 65532:65532
VOLUME /var/lib/wagate
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/wagate"]
CMD ["serve"]
