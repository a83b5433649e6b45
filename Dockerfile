# The service alone on a distroless base: no shell, not root, nothing to write but /data.
#
#   docker build -t lead-intake .
#   docker run --read-only -p 8080:8080 -v leads:/data -e CRM_WEBHOOK_URL=… lead-intake
#
# Where no registry can be reached, other bases can be given: --build-arg RUST=… --build-arg BASE=…
ARG RUST=rust:1.95-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST} AS build
WORKDIR /src
# The base's loader (glibc 2.36 and later) reads relocations packed: half a megabyte less on the disk and in memory.
ENV RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs"
# The dependencies first, in a layer of their own: it stays as long as Cargo.lock does.
COPY Cargo.toml Cargo.lock ./
COPY stand-ins/Cargo.toml stand-ins/
COPY torture/Cargo.toml torture/
RUN mkdir -p src stand-ins/src torture/src benches/whole && touch src/lib.rs stand-ins/src/lib.rs torture/src/lib.rs benches/whole/main.rs benches/moving.rs benches/sheet.rs \
    && echo 'fn main() {}' | tee src/main.rs > torture/src/main.rs \
    && cargo build --release --locked --no-default-features --bin lead-intake
COPY config config
COPY migrations migrations
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --no-default-features --bin lead-intake \
    && mkdir -p /out/data && cp target/release/lead-intake /out/

FROM ${BASE}
COPY --from=build /out/lead-intake /lead-intake
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
# The store's default, sqlite://data/lead-intake.db, is on the volume from here; a variable would win over a file's store.url.
WORKDIR /
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=6s --start-period=5s CMD ["/lead-intake", "health"]
ENTRYPOINT ["/lead-intake"]
