# The service; with `--target simulator`, the simulator of the provider.
# Behind a proxy with its own authority: --secret id=pipconf,src=pip.conf --secret id=cabundle,src=ca.crt, where pip.conf
# says `cert = /run/secrets/ca.crt`.
# The digest is that of python:3.13-slim for every platform; a mirror's is as good.
ARG BASE_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${BASE_IMAGE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/build.lock requirements/service.lock requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf,required=false \
    --mount=type=secret,id=cabundle,target=/run/secrets/ca.crt,required=false \
    python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/penstock \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.lock \
    && /opt/build/bin/pip --python /opt/penstock/bin/python install --quiet --require-hashes --only-binary :all: \
      -r requirements/service.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/penstock/bin/python install --quiet --no-index --no-deps dist/*.whl \
    && mkdir /state

FROM build AS build-simulator
COPY requirements/simulator.lock requirements/
RUN --mount=type=secret,id=pipconf,target=/etc/pip.conf,required=false \
    --mount=type=secret,id=cabundle,target=/run/secrets/ca.crt,required=false \
    /opt/build/bin/pip --python /opt/penstock/bin/python install --quiet --require-hashes --only-binary :all: \
      -r requirements/simulator.lock

FROM ${BASE_IMAGE} AS runtime
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532

FROM runtime AS simulator
LABEL org.opencontainers.image.title="batchsim" \
      org.opencontainers.image.description="A simulator of the OpenAI Files and Batches API" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=65532:65532 /state /var/lib/batchsim
COPY --from=build-simulator /opt/penstock /opt/penstock
EXPOSE 8090
WORKDIR /var/lib/batchsim
ENTRYPOINT ["batchsim", "--host", "0.0.0.0", "--port", "8090", "--state", "/var/lib/batchsim"]

FROM runtime AS service
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="penstock" \
      org.opencontainers.image.description="Kafka in, OpenAI Batch API through, Kafka out: exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PENSTOCK_SPOOL_FOLDER=/var/spool/penstock
COPY --from=build --chown=65532:65532 /state /var/spool/penstock
COPY --from=build /opt/penstock /opt/penstock
EXPOSE 8080
WORKDIR /var/spool/penstock
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "import http.client, os, sys; \
connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PENSTOCK_HTTP_PORT', '8080')), timeout=4); \
connection.request('GET', '/livez'); sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["penstock"]
CMD ["run"]
