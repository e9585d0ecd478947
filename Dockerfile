# The notebooks in JupyterLab, with nothing to install but Docker:
#   docker build --tag reproductions .
#   docker run --rm --publish 8888:8888 reproductions
# docs/without_installing.md has the rest. The Python is that of environment.yml and binder/runtime.txt; a test compares them.
FROM python:3.11-slim

# JupyterLab listens on all addresses of the container, and looks for no browser in it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 reader \
    && install --directory --owner=reader --group=reader /home/reader/reproductions \
    && mkdir -p /etc/jupyter \
    && echo '{"ServerApp": {"ip": "0.0.0.0", "open_browser": false}}' > /etc/jupyter/jupyter_server_config.json

USER reader
WORKDIR /home/reader/reproductions

# The CPU build of torch, which is far smaller; an empty value takes what the package registry has.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

# What the set-up reads, in a layer of its own: another notebook or record installs and fetches nothing anew.
COPY --chown=reader:reader Makefile requirements.lock pyproject.toml README.md LICENSE ./
COPY --chown=reader:reader lib ./lib
RUN make setup

COPY --chown=reader:reader . .

EXPOSE 8888
CMD ["make", "lab"]
