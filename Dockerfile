# Podium as an image, with or without a GPU.
#
#   docker build -t podium .
#   docker run --rm --gpus all -v "$PWD/input:/app/input:ro" -v "$PWD/runs:/app/runs" \
#       -v "$PWD/submissions:/app/submissions" podium train --fold all
#
# Any base with Python 3.11 or newer does: the torch wheels bring CUDA themselves and need only the host's driver.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ENV VIRTUAL_ENV=/opt/podium \
    PATH=/opt/podium/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NO_ALBUMENTATIONS_UPDATE=1 \
    HF_HOME=/app/runs/.hub \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    HOME=/tmp \
    USER=podium \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY requirements.txt /app/requirements.txt
# Beside the packages: `import src` from any folder, and the same PATH in a login shell (ssh on a rented machine), since
# platforms that replace the entrypoint often start one.
RUN python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir --disable-pip-version-check -r /app/requirements.txt \
    && echo "requirements.txt $(cksum < /app/requirements.txt)" > "$VIRTUAL_ENV/.podium-requirements" \
    && echo /app > "$(python -c 'import site; print(site.getsitepackages()[0])')/podium.pth" \
    && mkdir -p /etc/profile.d \
    && echo "export VIRTUAL_ENV=$VIRTUAL_ENV PATH=$VIRTUAL_ENV/bin:\$PATH NO_ALBUMENTATIONS_UPDATE=1" \
        > /etc/profile.d/podium.sh

WORKDIR /app
COPY src src
COPY pipelines pipelines
COPY README.md LICENSE ./
# Writable for whatever user the platform chooses (docker run --user), where nothing is mounted over them.
RUN chmod -R a+rX /app \
    && mkdir -p input runs submissions \
    && chmod 0777 input runs submissions \
    && chmod 0755 pipelines/entrypoint.sh

USER 10001:10001
ENTRYPOINT ["/app/pipelines/entrypoint.sh"]
CMD ["help"]
