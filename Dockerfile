# freshet as an image: docs/deployment.md. Each RUN is run in a bare Debian tree by deploy/fresh-package.sh, too.
ARG DEBIAN=bookworm
FROM debian:${DEBIAN}-slim AS build
WORKDIR /src
COPY deploy/install-dependencies.sh deploy/
RUN deploy/install-dependencies.sh build package
COPY . .
RUN cmake --preset release -DFRESHET_TESTS=OFF -DFRESHET_BENCHMARKS=OFF && \
    cmake --build --preset release --target freshet freshet-show && \
    cpack --config build/release/CPackConfig.cmake -B /package

FROM debian:${DEBIAN}-slim
COPY --from=build /package/freshet_*.deb /package/
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends /package/freshet_*.deb && \
    rm -rf /var/lib/apt/lists/* /package
# hadolint ignore=DL3066
USER freshet
WORKDIR /var/lib/freshet
VOLUME /var/lib/freshet
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.1 200 ' <&3"]
ENTRYPOINT ["freshet"]
CMD ["run", "-c", "/etc/freshet/freshet.yaml"]
