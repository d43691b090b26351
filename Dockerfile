# Podium as an image, with or without a GPU.
#
#   docker build -t podium .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --shm-size 1g -v "$PWD/input:/app/input" \
#       -v "$PWD/runs:/app/runs" -v "$PWD/submissions:/app/submissions" podium train --fold all
#
# Any base with Python 3.11 does: the torch wheels bring CUDA themselves and need only the host's driver. Packages are
# installed by their hashes (requirements.lock, for x86_64); for another Python or machine, build with
# --build-arg REQUIREMENTS=requirements.txt, which pins versions only.
# What is optional is named when the image is built: --build-arg EXTRAS="serve export search".
# `train --compile` also needs a C compiler and Python's headers: build with BASE_IMAGE=python:3.11-bookworm for it.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG REQUIREMENTS=requirements.lock
ARG EXTRAS=""

ENV VIRTUAL_ENV=/opt/podium \
    PATH=/opt/podium/bin:${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NO_ALBUMENTATIONS_UPDATE=1 \
    HF_HOME=/app/runs/.hub \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor \
    HOME=/tmp \
    USER=podium \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Some bases end as another user; the last USER below is what the image runs as.
USER 0:0
COPY requirements*.txt requirements.lock /app/
RUN python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
    || { echo "error: $BASE_IMAGE lacks Python 3.11 or newer with venv (Debian: apt-get install python3-venv)" >&2; \
        exit 2; } \
    && python3 -m venv "$VIRTUAL_ENV" \
    && pip install --no-cache-dir --disable-pip-version-check -r "/app/$REQUIREMENTS" \
    && for extra in $EXTRAS; do \
        pip install --no-cache-dir --disable-pip-version-check -r "/app/requirements-$extra.txt" || exit 1; \
    done \
    && echo /app > "$(python -c 'import site; print(site.getsitepackages()[0])')/podium.pth"
# Beside the packages: `import src` from any folder (podium.pth above), and the same environment in a login shell and
# over ssh (/etc/environment), since platforms that replace the entrypoint start one of these.
RUN mkdir -p /etc/profile.d \
    && for pair in "VIRTUAL_ENV=$VIRTUAL_ENV" "HF_HOME=$HF_HOME" NO_ALBUMENTATIONS_UPDATE=1; do \
        echo "$pair" >> /etc/environment; \
        echo "export $pair" >> /etc/profile.d/podium.sh; \
    done \
    && echo "PATH=$PATH" >> /etc/environment \
    && echo "export PATH=$VIRTUAL_ENV/bin:\$PATH" >> /etc/profile.d/podium.sh

WORKDIR /app
COPY src src
COPY pipelines pipelines
COPY benchmarks benchmarks
COPY README.md LICENSE ./
# The program is root's; the three folders are open to whatever user the platform chooses (docker run --user), where
# nothing is mounted over them. The last line fails the build, not a rented hour, where the base lacks a library.
RUN chmod -R a+rX,go-w /app \
    && chmod 0755 pipelines/entrypoint.sh \
    && mkdir -p input runs submissions \
    && chmod 0777 input runs submissions \
    && python -m src.summary --backbone string_cnn > /dev/null \
    && rm -rf /tmp/*

USER 10001:10001
# On SIGINT, training saves the current step and exits; the same command resumes.
STOPSIGNAL SIGINT
ENTRYPOINT ["/app/pipelines/entrypoint.sh"]
CMD ["help"]
