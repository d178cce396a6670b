# One image for all of it: the Prefect server, its services, the worker, each run in a Pod or task, and the receiver of webhooks.
#
#     docker build -t nightshift:0.1.0 .
#
# The tag of the base moves with its security updates. In your pipeline give the digest that you have looked at, and let a bot (Renovate, Dependabot) move it:
#     --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS installed
WORKDIR /opt/nightshift
COPY requirements-image.lock ./
# Packages from an index of your own: --secret id=pip,src=pip.conf. It is read while this step runs, and is in no layer of the image.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r requirements-image.lock \
    && .venv/bin/python -m compileall -q -j 0 .venv
COPY pyproject.toml README.md prefect.yaml ./
COPY core core
COPY tasks tasks
COPY flows flows
COPY deployments deployments
# Editable, as in a checkout: prefect.yaml and the files of automations are found beside the code.
RUN .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --editable . \
    && .venv/bin/python -m compileall -q -j 0 core tasks flows deployments

FROM ${PYTHON_IMAGE}
# The PostgreSQL project's packages for Debian; their key comes with Debian's own package postgresql-common. A client of each supported major: pg_dump must be as new
# as the server, and not newer than needed. A server only for drills that the run starts itself (drill.scratch = "embedded"); "" leaves it out.
ARG CLIENT_MAJORS="14 15 16 17 18"
ARG SERVER_MAJOR="18"
# "" takes them from Debian's own archive, where the PostgreSQL project's is not reached. That has one major, 15 in bookworm, which dumps servers up to 15 alone:
#     --build-arg POSTGRESQL_ARCHIVE= --build-arg CLIENT_MAJORS=15 --build-arg SERVER_MAJOR=15
ARG POSTGRESQL_ARCHIVE="apt.postgresql.org"
# tini passes a Pod's SIGTERM on to the whole group, so that a run can tell of its end.
# Versions of Debian packages are not pinned: the archive keeps only the newest of each, and that is the one with the security fixes.
# ssl-cert, which postgresql-common brings along, makes a key that would be the same for all who have the image.
# hadolint ignore=DL3008
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-common tini \
    && if [ -n "${POSTGRESQL_ARCHIVE}" ]; then /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y -h "${POSTGRESQL_ARCHIVE}"; fi \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && for major in ${CLIENT_MAJORS}; do apt-get install --yes --no-install-recommends "postgresql-client-${major}" || exit 1; done \
    && if [ -n "${SERVER_MAJOR}" ]; then apt-get install --yes --no-install-recommends "postgresql-${SERVER_MAJOR}"; fi \
    && rm -rf /var/lib/apt/lists/* /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem \
    && groupadd --gid 10001 nightshift \
    && useradd --uid 10001 --gid 10001 --home-dir /home/nightshift --create-home --shell /usr/sbin/nologin nightshift \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/nightshift

COPY --from=installed /opt/nightshift /opt/nightshift
ENV PATH=/opt/nightshift/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/home/nightshift \
    PREFECT_HOME=/tmp/prefect \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/tmp/prefect/ui \
    NIGHTSHIFT_DATA=/var/lib/nightshift \
    NIGHTSHIFT_ENVIRONMENTS=/etc/nightshift/environments \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1
# Empty on purpose: `prefect flow-run execute` copies the folder that it starts in before each run. The code is imported from /opt/nightshift.
WORKDIR /home/nightshift
# By number: Kubernetes cannot tell that a name is not root (runAsNonRoot).
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "-g", "--"]
CMD ["nightshift", "--help"]
