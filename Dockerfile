# Sonant in containers: cpu (the default), gpu, and export, the only one with torch.
#
#   docker build -t sonant:cpu .
#   docker build --target gpu -t sonant:gpu .
#   docker build --target export -t sonant:export .
#
# What needs pip is done in stages that are thrown away: an image is its base, one virtual environment without pip, and a
# user who can write nowhere but in the volumes. deploy/README.md says how to run them; `make containers` builds them
# and proves what is said here.
#
# Behind a mirror of the package index, give pip its configuration: --secret id=pip,src=/etc/pip.conf

# Of all targets: Linux with glibc, and Python 3.11 to 3.13 with pip and venv. NVIDIA's libraries are wheels, and the driver
# is mounted by its container toolkit, so the GPU needs no other one. To pin it for good, name it by its digest.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown


FROM ${BASE_IMAGE} AS base
ARG BASE_IMAGE
COPY deploy/docker/check_base.py /tmp/
RUN command -v python3 >/dev/null \
    || { echo "$BASE_IMAGE has no python3: name another BASE_IMAGE, such as python:3.11-slim-bookworm" >&2; exit 1; }; \
    python3 /tmp/check_base.py "$BASE_IMAGE"


FROM base AS wheel
COPY deploy/requirements/build.txt /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /venv && /venv/bin/python -m pip install --require-hashes -r /tmp/build.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY engines engines
COPY export export
COPY server server
COPY sonant sonant
RUN /venv/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels .


# A target's environment. pip works on it from outside: nothing installs anything in the images.
FROM base AS environment
RUN python3 -m venv --without-pip /opt/sonant
ENV PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1


# Sonant itself, apart from what it needs: a layer of megabytes over one that stays the same from version to version.
FROM environment AS application
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /opt/sonant/bin/python install --no-deps --no-index --root /staging /wheels/*.whl


FROM environment AS cpu-environment
COPY deploy/requirements/cpu.txt /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sonant/bin/python install --require-hashes -r /tmp/cpu.txt


FROM environment AS gpu-environment
COPY deploy/requirements/gpu.txt /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sonant/bin/python install --require-hashes -r /tmp/gpu.txt
# NVIDIA has TensorRT's libraries on an index of its own, which tells no hashes to lock. Empty: an image without TensorRT.
ARG TENSORRT=10.16.1.11
ARG TENSORRT_INDEX=https://pypi.nvidia.com
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$TENSORRT" ]; then \
        python3 -m pip --python /opt/sonant/bin/python install --prefer-binary \
            ${TENSORRT_INDEX:+--extra-index-url "$TENSORRT_INDEX"} "tensorrt-cu13==$TENSORRT"; \
    fi


FROM environment AS export-environment
COPY deploy/requirements/export.txt /tmp/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sonant/bin/python install --require-hashes -r /tmp/export.txt
# By version and not by hash: the build for processors, which takes a tenth of the other's room, is only on PyTorch's own
# index, whose .../cu130 has that for GPUs. What torch needs beside is locked above. Empty: pip's own index.
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sonant/bin/python install \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$TORCH"


FROM base AS runtime
# A number, so that who runs the image can see that it is not root; a name, since some libraries ask for it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache --shell /usr/sbin/nologin sonant \
    && install -d -o 10001 -g 10001 /models /cache /spool \
    && rm /tmp/check_base.py
ENV PATH=/opt/sonant/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    SONANT_HOST=0.0.0.0 \
    SONANT_PORT=8000 \
    SONANT_MODELS=/models \
    SONANT_SPOOL=/spool
# Where `sonant export` writes by itself, models/NAME, is /models/NAME.
WORKDIR /
VOLUME ["/models", "/cache", "/spool"]
LABEL org.opencontainers.image.title="Sonant" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="deploy/README.md"
USER 10001:10001


FROM runtime AS server
COPY deploy/docker/healthcheck.py /opt/
EXPOSE 8000
# Ready, not alive: whoever waits for this container wants to send it requests. What fails before the engines are verified
# does not count for five minutes; a process that hangs ends by itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["/opt/sonant/bin/python", "-I", "/opt/healthcheck.py"]
# Without a shell in between: process 1 is the server, and gets the signals.
ENTRYPOINT ["sonant"]
CMD ["serve"]


FROM runtime AS export
COPY --from=export-environment /opt/sonant /opt/sonant
COPY --from=application /staging/opt/sonant /opt/sonant
ARG BASE_IMAGE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.description="Turns Hugging Face checkpoints into engines for Sonant" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The hub's files among the other caches, and nothing told to anybody.
ENV HF_HOME=/cache/huggingface HF_HUB_DISABLE_TELEMETRY=1
ENTRYPOINT ["sonant", "export"]
CMD ["--help"]


FROM server AS gpu
COPY --from=gpu-environment /opt/sonant /opt/sonant
COPY --from=application /staging/opt/sonant /opt/sonant
ARG BASE_IMAGE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.description="Serves audio encoders over HTTP, on NVIDIA GPUs" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# What NVIDIA's container toolkit is to mount of the driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/cache/cuda


# The last one is what is built without --target.
FROM server AS cpu
COPY --from=cpu-environment /opt/sonant /opt/sonant
COPY --from=application /staging/opt/sonant /opt/sonant
ARG BASE_IMAGE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.description="Serves audio encoders over HTTP, on processors" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
