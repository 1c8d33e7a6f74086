# Built and run as a plain user; the listen address is opened up because a container's loopback
# reaches nobody. Everything else keeps its default and is set by SLUICE_* variables (`sluice --help`).

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package sluice-proxy --bin sluice

FROM docker.io/library/debian:bookworm-slim
# The roots that TLS connections to destinations are checked against. OpenSSL and zlib are linked statically.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 sluice \
 && useradd --uid 10001 --gid sluice --no-create-home --shell /usr/sbin/nologin sluice \
 && install --directory --owner=sluice --group=sluice /var/lib/sluice
COPY --from=build /src/target/release/sluice /usr/local/bin/sluice

USER 10001:10001
# The default file output writes to ./sluice-data, so to /var/lib/sluice/sluice-data here; an S3 output stages
# in /var/lib/sluice/sluice-staging what is not uploaded yet: keep the volume.
WORKDIR /var/lib/sluice
VOLUME /var/lib/sluice
ENV SLUICE_LISTEN__ADDRESS=0.0.0.0:8088
# 8088 takes events. 9090, metrics and probes, stays on loopback until SLUICE_ADMIN__ADDRESS says otherwise.
EXPOSE 8088
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["sluice", "health"]
ENTRYPOINT ["sluice"]
CMD ["run"]
