# Two images: speechbridge, which is the service and the recognizer, and caddy, with its configuration.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CADDY_IMAGE=caddy:2.10-alpine


FROM ${CADDY_IMAGE} AS caddy
# Not /data: a base image that declares it a volume would throw away who owns it.
ENV XDG_DATA_HOME=/var/lib/caddy XDG_CONFIG_HOME=/tmp
RUN install -d -o 10001 -g 10001 /var/lib/caddy
COPY deploy/Caddyfile /etc/caddy/Caddyfile
USER 10001:10001
EXPOSE 80 443
# Loading what is loaded already changes nothing. Of all of Caddy's commands it is the one that asks a running Caddy.
HEALTHCHECK --interval=10s --timeout=5s CMD ["caddy", "reload", "--config", "/etc/caddy/Caddyfile"]
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile"]


FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# What the lock names (the service's packages, and hatchling to build our own) is fetched and checked by its hash. What
# the service needs of that is then installed from those files and nowhere else; hatchling stays behind.
COPY requirements.lock ./
RUN python -m pip download --quiet --require-hashes --no-deps --only-binary :all: --dest wheels -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY app app
RUN python -m pip wheel --quiet --no-index --find-links wheels --no-deps --wheel-dir wheels . \
    && python -m venv --without-pip /opt/speechbridge \
    && python -m pip --python /opt/speechbridge/bin/python install --quiet --no-index --find-links wheels speechbridge
# Of the model's wheel only the model is used: the rest of it is 70 MB.
RUN cd /opt/speechbridge/lib/python3*/site-packages \
    && rm -r moonshine_voice.libs \
    && find moonshine_voice -type f ! -name __init__.py ! -path '*/assets/tiny-en/*' -delete


FROM ${PYTHON_IMAGE} AS speechbridge
COPY --from=build /opt/speechbridge /opt/speechbridge
RUN install -d -o 10001 -g 10001 /var/lib/speechbridge
WORKDIR /var/lib/speechbridge
ENV PATH=/opt/speechbridge/bin:$PATH
# Python's own images come without the bytecode of the standard library. What is used of it is compiled here and now, or
# it would be at each start and for each healthcheck.
RUN python -c "import speechbridge.cli.main, speechbridge.recognizer.__main__, urllib.request"
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    SPEECHBRIDGE_HOST=0.0.0.0 \
    SPEECHBRIDGE_FILES_DIR=/var/lib/speechbridge
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["speechbridge", "serve"]
