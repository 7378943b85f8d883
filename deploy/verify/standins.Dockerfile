# What stands in, where no registry is within reach, for the images of others that docker-compose.yml names: the same
# programs as Debian packages.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS debian
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends haproxy netcat-openbsd prometheus wget \
    && rm -rf /var/lib/apt/lists/*

FROM debian AS proxy

FROM debian AS prometheus
RUN install -d -o 65534 -g 65534 /prometheus
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
