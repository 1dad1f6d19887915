# The search: coordinator and workers, with Keras on TensorFlow (CPU).
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Dependencies first, from pyproject.toml alone: a change in the code does not download TensorFlow again.
WORKDIR /app
COPY pyproject.toml constraints.txt LICENSE ./
RUN touch README.md && pip install -c constraints.txt ".[postgres]"

COPY README.md ./
COPY search search
COPY spaces spaces
COPY tracking tracking
RUN pip install --no-deps -e . && python -m compileall -q search spaces tracking

# The volume takes its owner from this folder. User 1000 reads the mounted data on most hosts.
RUN useradd --create-home --uid 1000 search && install -d -o search -g search /var/lib/search
USER search

ENV SEARCH_HOME=/var/lib/search SEARCH_DATA=/data

# There is no git and no .git in the image: the commit comes from whoever builds it, and MLflow need not complain.
ARG GIT_COMMIT=
ENV SEARCH_GIT_COMMIT=$GIT_COMMIT GIT_PYTHON_REFRESH=quiet

ENTRYPOINT ["python", "-m", "search"]
CMD ["--help"]
