# The agent's image. Build: docker build -t kubenetprobe .
# The first stage makes everything from sources; the second has what runs: Node, the compiled agent, its native addon
# and its BPF programs. No compiler and no kernel headers are needed on the node.
#
# The base images are pinned by the digests of their indices: a build tomorrow starts from the same bytes as one today.
# `scripts/pin-images` moves them to what the tags point to now; do so for each release, for Debian's fixes.
FROM node:24-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d AS build
WORKDIR /src
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates clang g++ git iproute2 libc6-dev llvm make zlib1g-dev \
  && rm -rf /var/lib/apt/lists/*
COPY . .
# The agent is bundled, so no package is shipped. The Node that is shipped is the one tests run on.
RUN make build \
  && cp --dereference node_modules/.bin/node /node

FROM debian:bookworm-slim@sha256:96e378d7e6531ac9a15ad505478fcc2e69f371b10f5cdf87857c4b8188404716
LABEL org.opencontainers.image.title="kubenetprobe" \
  org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /opt/kubenetprobe
COPY --from=build /node node/bin/node
COPY --from=build /src/package.json package.json
COPY --from=build /src/LICENSE LICENSE
COPY --from=build /src/build/THIRD_PARTY_NOTICES THIRD_PARTY_NOTICES
# What linking the addon with another libelf takes: its licence wants users to be able to.
COPY --from=build /src/build/relink relink
COPY --from=build /src/bin bin
COPY --from=build /src/build/native/knp.node build/native/knp.node
COPY --from=build /src/build/bpf build/bpf
COPY --from=build /src/dist/agent dist/agent
RUN ln -s /opt/kubenetprobe/bin/kubenetprobe /usr/local/bin/kubenetprobe
# Root, without root's rights: the chart drops every capability but those that BPF needs, and Kubernetes gives added
# capabilities to root alone.
USER 0:0
ENV NODE_ENV=production
EXPOSE 9464
ENTRYPOINT ["/opt/kubenetprobe/bin/kubenetprobe"]
CMD ["run"]
