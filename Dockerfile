# An image with the CPU build of PyTorch; docs/container.md says how to build and use it.
# One stage on purpose: what is changed most often comes last, so that an update of the package is small layers only.
FROM debian:bookworm-slim

# PyPI's torch for Linux brings gigabytes of CUDA libraries along; this index has the CPU build.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/trinas
ENV PATH=/opt/trinas/bin:$PATH

# The folders are made here for their owners: a volume mounted there takes them over.
# Downloaded models are for every user, as the container may run under any number (docker run --user).
RUN useradd -m -u 1000 trinas \
    && install -d -o trinas -g trinas /data \
    && install -d -m 1777 /var/cache/huggingface
ENV HF_HOME=/var/cache/huggingface

WORKDIR /src
COPY constraints.txt ./
# torch and nothing else, so that nothing else can come from that index, nor torch from PyPI.
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch

# The dependencies without the package itself: pip has no option for that.
COPY pyproject.toml ./
RUN python -c 'from tomllib import load; print(*load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt

# .dockerignore lists what is copied. Built with the pinned setuptools that torch needs anyway.
COPY . ./
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check && rm -r /src

USER 1000
WORKDIR /data
EXPOSE 7860
# Of the page; a container that does something else ends before it matters.
HEALTHCHECK --interval=5m --timeout=1m --start-period=2m CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/')"]
ENTRYPOINT ["trinas-upscale"]
CMD ["web", "--host", "0.0.0.0"]
