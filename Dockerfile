# A replica of Progress Gateway. `docker build -t progress-gateway:0.2.0 .`; how to run it: deploy/README.md.
# For production pin the digest of the base image, as your registry shows it:
# --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# All wheels, each checked against its hash in the lock file; the build tools are among them.
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --no-deps --require-hashes --only-binary :all: --wheel-dir /wheels \
        -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway/ gateway/
COPY publisher/ publisher/
RUN pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /dist .
# A venv with only what a replica needs, without pip and the build tools.
RUN python -m venv --without-pip /opt/gateway \
    && pip --python /opt/gateway/bin/python install --no-cache-dir --no-index --find-links /wheels \
        --find-links /dist "progress-gateway[gateway]==0.2.0"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Progress Gateway" \
      org.opencontainers.image.description="Shows the progress of background jobs live in web pages" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    GATEWAY_HOST=0.0.0.0
# A number, so that Kubernetes can check that it is not root. Nothing is written: the file system may be read-only.
USER 10001:10001
EXPOSE 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["progress-gateway", "healthcheck"]
ENTRYPOINT ["progress-gateway"]
CMD ["serve"]
