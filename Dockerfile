# syntax=docker/dockerfile:1
#
# A gateway that runs as nobody in particular, on a read-only root file system, and refuses to start without a key:
#
#   docker build -t portico .
#   docker run --read-only --tmpfs /tmp -p 8080:8080 -e PORTICO_API_KEY=… -v portico-data:/data portico
#
# It serves /app/topology.yaml, which is the demo. Your own: -v "$PWD/topology.yaml:/app/topology.yaml:ro", or build FROM this image
# and copy your topology and the modules beside it to /app. What must outlive the container belongs in /data.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY portico ./portico
# The environment gets no pip of its own: nothing in the final image installs anything.
RUN python -m venv --without-pip /opt/portico \
    && python -m pip --python /opt/portico/bin/python install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[otel]' \
    && mkdir /data

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Portico" \
      org.opencontainers.image.description="Agents behind HTTP and MCP, kept alive by a supervision tree" \
      org.opencontainers.image.licenses="Apache-2.0"
# No bytecode and no buffers: nothing is written outside /data and /tmp, and logs appear when they are made.
ENV PATH=/opt/portico/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data
COPY --from=build /opt/portico /opt/portico
COPY --from=build --chown=10001:10001 /data /data
COPY examples/demo /app
WORKDIR /app
VOLUME /data
EXPOSE 8080
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["portico"]
CMD ["serve", "/app/topology.yaml", "--host", "0.0.0.0", "--port", "8080"]
