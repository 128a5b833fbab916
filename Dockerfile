# Wye's images: `docker build --target controlplane`, `--target worker` and `--target mlflow`; Envoy's is in envoy/.
# Each has its Python packages, at the versions of docker/versions.txt, in one layer, and Wye itself in another.

FROM python:3.11.14-slim-bookworm AS base
# One user for all: what they say to each other passes through Unix sockets that only their owner may open.
RUN groupadd --gid 10001 wye \
    && useradd --uid 10001 --gid wye --no-create-home --home-dir /var/lib/wye --shell /usr/sbin/nologin wye \
    && install --directory --owner wye --group wye --mode 0700 \
        /var/lib/wye /var/lib/mlflow /run/wye /run/wye/control /run/wye/replicas /run/wye/metrics
ENV PATH=/opt/wye/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true
COPY docker/healthy.py /usr/local/lib/
WORKDIR /var/lib/wye

FROM base AS build
COPY docker/versions.txt /build/docker/
RUN pip install --no-cache-dir --disable-pip-version-check --constraint /build/docker/versions.txt uv \
    && python3 -m venv --without-pip /opt/wye
# Compiled here, for nothing can be written beside the code where it runs.
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    VIRTUAL_ENV=/opt/wye
WORKDIR /build

# Wye itself, without what it depends on.
FROM build AS wye
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --constraint docker/versions.txt hatchling
COPY pyproject.toml README.md ./
COPY envoy/bootstrap.yaml envoy/
COPY controlplane controlplane
COPY model_worker model_worker
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --no-build-isolation --prefix /wye .

# The control plane asks MLflow's registry and runs no model: MLflow's small edition does.
FROM build AS controlplane-packages
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --constraint docker/versions.txt \
    alembic click cryptography envoy-data-plane flask grpcio httpx mlflow-skinny orjson packaging pandas protobuf \
    psutil 'psycopg[binary]' 'pyjwt[crypto]' pyyaml rich sqlalchemy waitress

FROM base AS controlplane
COPY --from=controlplane-packages /opt/wye /opt/wye
COPY --from=wye /wye /opt/wye
USER wye
HEALTHCHECK --interval=3s --timeout=5s --start-period=120s --retries=5 \
    CMD ["python", "-S", "/usr/local/lib/healthy.py", "WYE_API_ADDRESS", "/api/2.0/wye/status"]
CMD ["python", "-m", "controlplane"]

# MLflow, and the few packages with which workers serve its models fast: one layer for the registry and for workers.
FROM build AS mlflow-packages
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --constraint docker/versions.txt \
    click httptools httpx mlflow orjson packaging psutil 'psycopg[binary]' pyyaml rich scikit-learn uv uvloop

# The tracking server and registry.
FROM base AS mlflow
COPY --from=mlflow-packages /opt/wye /opt/wye
USER wye
EXPOSE 5000
HEALTHCHECK --interval=3s --timeout=5s --start-period=300s --retries=5 \
    CMD ["python", "-S", "/usr/local/lib/healthy.py", "127.0.0.1:5000", "/health"]
CMD ["mlflow", "server"]

FROM mlflow AS worker
USER root
# OpenMP, which LightGBM's wheels look for.
RUN apt-get update -q && apt-get install -y -q --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=wye /wye /opt/wye
USER wye
HEALTHCHECK --interval=3s --timeout=5s --start-period=120s --retries=5 \
    CMD ["python", "-S", "/usr/local/lib/healthy.py", "WYE_WORKER_HOST_ADDRESS"]
CMD ["wye", "worker-host"]
