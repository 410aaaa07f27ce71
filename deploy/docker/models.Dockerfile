# syntax=docker/dockerfile:1
# TorchServe with the project's models, and the commands that promote them: `docker build -f deploy/docker/models.Dockerfile .`
# For processors alone: `--build-arg FLAVOUR=cpu --build-arg TORCH_WHEELS="URL#sha256=... URL#sha256=..."` (torch and
# torchvision); without these arguments, for NVIDIA GPUs (tag it `...-cuda`).
# PYTHON_IMAGE should be given with a digest; no digest is written here that nobody has looked at.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ARG FLAVOUR=cuda
ARG TORCH_WHEELS=""
WORKDIR /src
COPY requirements-uv.lock deploy/docker/*.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements-uv.lock -r build.lock \
    && /opt/build/bin/uv venv --python python3.11 /opt/pentimento
RUN case "$FLAVOUR" in cuda) lock=models.lock ;; cpu) lock=models-cpu.lock ;; *) echo "FLAVOUR is cuda or cpu"; exit 1 ;; esac \
    && /opt/build/bin/uv pip sync --no-cache --python /opt/pentimento/bin/python --require-hashes "$lock"
# pip refuses a wheel that is not what its sha256 says; one without is refused here
RUN for wheel in $TORCH_WHEELS; do \
        case "$wheel" in *"#sha256="*) ;; *) echo "$wheel has no #sha256="; exit 1 ;; esac; \
        /opt/build/bin/pip --python /opt/pentimento/bin/python install --no-deps "$wheel" || exit 1; \
    done \
    && if [ "$FLAVOUR" = cpu ]; then /opt/pentimento/bin/python -c "import torch"; fi
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY services ./services
COPY model_archive ./model_archive
COPY trainer ./trainer
RUN /opt/build/bin/python -m hatchling build -t wheel -d /tmp/wheel \
    && /opt/build/bin/uv pip install --no-cache --python /opt/pentimento/bin/python --no-deps /tmp/wheel/*.whl \
    && /opt/pentimento/bin/python -m compileall -q -j 0 /opt/pentimento/lib

# What is in the image, for whoever has to answer for it: `docker build --target sbom --output type=local,dest=. ...`
FROM build AS packages
RUN /opt/build/bin/uv pip list --python /opt/pentimento/bin/python --format json > /packages.json

FROM scratch AS sbom
COPY --from=packages /packages.json /

FROM ${PYTHON_IMAGE} AS run
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pentimento-models" \
      org.opencontainers.image.description="TorchServe with the project's models, and the commands that promote them" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 pentimento \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin pentimento \
    && install -d -o 10001 -g 10001 /var/lib/pentimento
# psycopg's libpq comes with an OpenSSL that looks for the system's authorities where no system has them.
RUN test -s /etc/ssl/certs/ca-certificates.crt
COPY --from=build /opt/pentimento /opt/pentimento
COPY --from=packages /packages.json /usr/share/pentimento/packages.json
ENV PATH=/opt/pentimento/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PENTIMENTO_DATA_DIR=/var/lib/pentimento \
    MALLOC_ARENA_MAX=2
USER 10001:10001
WORKDIR /tmp
# The root file system may be read-only: /tmp and /var/lib/pentimento are what programs write, as volumes.
VOLUME ["/tmp", "/var/lib/pentimento"]
STOPSIGNAL SIGTERM
EXPOSE 8080 9464
ENV PENTIMENTO_TELEMETRY__HOST=0.0.0.0 PENTIMENTO_TELEMETRY__PORT=9464 HEALTH_URL=http://127.0.0.1:9464/healthz
HEALTHCHECK --interval=15s --timeout=6s --start-period=300s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=5)"]
CMD ["python", "-m", "services.model_server"]
