# Three images: speechbridge, which runs the service or the recognizer; caddy, with its configuration; and redis, which
# replicas of the service share.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CADDY_IMAGE=caddy:2.10-alpine
ARG REDIS_IMAGE=redis:7.4-alpine


FROM ${CADDY_IMAGE} AS caddy
# Not /data: the base image may declare it a volume, and then the owner set below would be lost.
ENV XDG_DATA_HOME=/var/lib/caddy XDG_CONFIG_HOME=/tmp
RUN install -d -o 10001 -g 10001 /var/lib/caddy
COPY deploy/Caddyfile /etc/caddy/Caddyfile
USER 10001:10001
EXPOSE 80 443
# The only Caddy command that needs a running server. Reloading the same configuration changes nothing.
HEALTHCHECK --interval=10s --timeout=5s CMD ["caddy", "reload", "--config", "/etc/caddy/Caddyfile"]
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile"]


FROM ${REDIS_IMAGE} AS redis
RUN install -d -o 10001 -g 10001 /var/lib/speechbridge-redis
USER 10001:10001
EXPOSE 6379
HEALTHCHECK --interval=2s --timeout=5s CMD ["redis-cli", "ping"]
ENTRYPOINT []
# Append-only: after a restart without its data, Redis would grant leases on the account's streams twice. noeviction: when
# its memory is full it refuses writes, and drops nothing.
CMD ["redis-server", "--bind", "*", "--protected-mode", "no", "--dir", "/var/lib/speechbridge-redis", \
    "--save", "", "--appendonly", "yes", "--maxmemory", "600mb", "--maxmemory-policy", "noeviction"]


FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Everything in the lock (the service's packages, and hatchling, which builds ours) is downloaded and verified by its hash.
# Then the service and its dependencies are installed from these files only. The image does not contain hatchling.
COPY requirements.lock ./
RUN python -m pip download --quiet --require-hashes --no-deps --only-binary :all: --dest wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY app app
RUN python -m pip wheel --quiet --no-index --find-links wheels --no-deps --wheel-dir wheels . \
    && python -m venv --without-pip /opt/speechbridge \
    && python -m pip --python /opt/speechbridge/bin/python install --quiet --no-index --find-links wheels 'live-speech-bridge[workers]'
# Keep only the model of the model's wheel: the rest is 70 MB.
RUN cd /opt/speechbridge/lib/python3*/site-packages \
    && rm -r moonshine_voice.libs \
    && find moonshine_voice -type f ! -name __init__.py ! -path '*/assets/tiny-en/*' -delete


FROM ${PYTHON_IMAGE} AS speechbridge
COPY --from=build /opt/speechbridge /opt/speechbridge
RUN install -d -o 10001 -g 10001 /var/lib/speechbridge
WORKDIR /var/lib/speechbridge
ENV PATH=/opt/speechbridge/bin:$PATH
# Python's official images contain no bytecode of the standard library. Compile the modules in use now: otherwise each
# start and each health check would compile them again.
RUN python -c "import speechbridge.cli.commands, speechbridge.recognizer.__main__, urllib.request"
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    SPEECHBRIDGE_HOST=0.0.0.0 \
    SPEECHBRIDGE_FILES_DIR=/var/lib/speechbridge
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["speechbridge", "serve"]
