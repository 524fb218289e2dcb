# A replica of Progress Gateway. `docker build -t progress-gateway:0.2.0 .`; how to run it: deploy/README.md.
# For production pin the digest of the base image, as your registry shows it:
# --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# All wheels, each checked against its hash in the lock file; the build tools are among them.
COPY requirements-image.lock ./
RUN pip wheel --no-cache-dir --no-deps --require-hashes --only-binary :all: --wheel-dir /wheels \
        -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway/ gateway/
COPY publisher/ publisher/
RUN pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /dist .
# A venv with only what a replica needs, without pip and the build tools. Traces are in it: docs/operating.md. /wheels has one
# version of each, that of the lock file.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/gateway \
    && pip --python /opt/gateway/bin/python install --no-cache-dir --no-index --find-links /wheels \
        --find-links /dist "progress-gateway[gateway,otel]==0.2.0" \
        opentelemetry-distro opentelemetry-exporter-otlp-proto-http \
    && cp gateway/commands/probe.py /opt/gateway/probe.py

FROM ${PYTHON_IMAGE}
# What a build of a release says of itself: --build-arg SOURCE=https://... REVISION=<commit> CREATED=<RFC 3339>.
ARG PYTHON_IMAGE
ARG SOURCE=""
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="Progress Gateway" \
      org.opencontainers.image.description="Shows the progress of background jobs live in web pages" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    GATEWAY_HOST=0.0.0.0 \
    OTEL_SERVICE_NAME=progress-gateway \
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf \
    OTEL_METRICS_EXPORTER=none \
    OTEL_LOGS_EXPORTER=none
# A number, so that Kubernetes can check that it is not root. Nothing is written: the file system may be read-only.
USER 10001:10001
EXPOSE 3001
STOPSIGNAL SIGTERM
# As `progress-gateway healthcheck`, at a fortieth of its cost.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-I", "-S", "/opt/gateway/probe.py"]
ENTRYPOINT ["progress-gateway"]
CMD ["serve"]
