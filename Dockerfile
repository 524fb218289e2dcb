# A replica of Progress Gateway. `docker build -t progress-gateway:0.1.0 .`; how to run it: deploy/README.md.
# The base is named by its version. Whoever builds for production pins the digest that their registry shows:
# --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# All wheels, each compared with its hash in the lock file. What the project is built with is among them.
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --no-deps --require-hashes --only-binary :all: --wheel-dir /wheels \
        -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway/ gateway/
COPY publisher/ publisher/
RUN pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /dist .
# A venv with what a replica needs and nothing else: neither pip nor what the project was built with.
RUN python -m venv --without-pip /opt/gateway \
    && pip --python /opt/gateway/bin/python install --no-cache-dir --no-index --find-links /wheels \
        --find-links /dist "progress-gateway[gateway]==0.1.0"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Progress Gateway" \
      org.opencontainers.image.description="Shows people, live, how their background jobs go" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    GATEWAY_HOST=0.0.0.0
# By number, so that Kubernetes can see that it is not root. Nothing is written, so the file system may be read-only.
USER 10001:10001
EXPOSE 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["progress-gateway", "healthcheck"]
ENTRYPOINT ["progress-gateway"]
CMD ["serve"]
