# openxclip serve in a container: docs/serve.md, "In a container". scripts/check_container_steps.py runs these steps without
# a container engine; it understands the instructions that are used here and no others.
#
#   docker build -t openxclip .
#   docker build -t openxclip --build-arg TORCH_INDEX= .      # PyPI's build of PyTorch: with CUDA on x86-64, several GB
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
# The package index that has PyTorch, and which PyTorch; an empty index is PyPI.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH=torch
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/openxclip
RUN /opt/openxclip/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN /opt/openxclip/bin/pip install --no-cache-dir -c constraints.txt '.[search,serve,train]'

FROM python:${PYTHON}-slim
# A user without rights or shell. The number is fixed, so that a volume can be given to it.
RUN useradd --uid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin openxclip
RUN install -d -o 10001 -g 10001 /data /videos
COPY --from=build /opt/openxclip /opt/openxclip
# All that is written is below /data and /tmp, so the rest may be read-only.
ENV PATH=/opt/openxclip/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/data \
    XDG_DATA_HOME=/data \
    XDG_CACHE_HOME=/data/cache \
    HF_HOME=/data/models \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Without a token (OPENXCLIP_TOKEN, or --token-file), the server refuses to start on this address.
ENTRYPOINT ["openxclip", "serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data/serve", "--root", "/videos"]
CMD ["--model", "mini"]
