# A cluster's data node: warehouse, authorisations, budget. It listens nowhere.
# Build from the repository's root: docker build -f docker/node.Dockerfile -t hejin-node .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY protos protos
COPY trust trust
COPY privacy privacy
COPY models models
COPY console console
COPY node node
COPY coordinator coordinator
COPY regulator regulator
COPY sandbox sandbox
RUN python -m venv /opt/hejin
RUN /opt/hejin/bin/pip install --no-cache-dir -c constraints.txt '.[node]'

FROM python:3.11-slim-bookworm
# The number is fixed so that volumes fit after an update; the folders are made here so that new
# named volumes belong to it.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin hejin \
    && install -d -o hejin -g hejin -m 0700 /var/lib/hejin /exchange
COPY --from=build /opt/hejin /opt/hejin
ENV PATH=/opt/hejin/bin:$PATH \
    HEJIN_HOME=/var/lib/hejin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    FLWR_TELEMETRY_ENABLED=0 \
    FLWR_DISABLE_UPDATE_CHECK=1
USER 10001:10001
WORKDIR /var/lib/hejin
VOLUME /var/lib/hejin
STOPSIGNAL SIGTERM
ENTRYPOINT ["hejin"]
CMD ["node", "serve"]
# Opens keys, charter, ledgers and warehouse as an operator would; half a second to two of CPU.
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s --retries=3 \
    CMD ["hejin", "node", "status", "--json"]
