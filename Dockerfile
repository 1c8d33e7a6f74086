# Built and run as a plain user; the listen address is opened up because a container's loopback
# reaches nobody. Everything else keeps its default and is set by SLUICE_* variables (`sluice --help`).

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The image has libssl.a and libz.a, so the program ends up with no need but glibc and libgcc (sinks/build.rs); the
# check keeps it so, for the image below has nothing else.
RUN cargo build --release --locked --package sluice-proxy --bin sluice \
 && ! ldd target/release/sluice | grep -E 'libssl|libcrypto|libz|not found' \
 && install --directory /var/lib/sluice

# glibc, libgcc and certificate authorities; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/sluice /usr/local/bin/sluice
COPY --from=build --chown=10001:10001 /var/lib/sluice /var/lib/sluice

USER 10001:10001
# The default file output writes to ./sluice-data, so to /var/lib/sluice/sluice-data here; an S3 output stages
# in /var/lib/sluice/sluice-staging what is not uploaded yet: mount a volume there. None is declared: an anonymous
# one would be left behind, with events in it, by every container that ends.
WORKDIR /var/lib/sluice
ENV SLUICE_LISTEN__ADDRESS=0.0.0.0:8088
# 8088 takes events. 9090, metrics and probes, stays on loopback until SLUICE_ADMIN__ADDRESS says otherwise.
EXPOSE 8088
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["sluice", "health"]
ENTRYPOINT ["sluice"]
CMD ["run"]
