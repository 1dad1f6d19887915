# The MLflow server: tracking on PostgreSQL, artifacts on a volume. No TensorFlow in here.
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The same pins as the client's: server and client are always of one version.
COPY constraints.txt /tmp/
RUN pip install -c /tmp/constraints.txt mlflow "psycopg[binary]"

# The volume takes its owner from this folder.
RUN useradd --create-home --uid 1000 mlflow && install -d -o mlflow -g mlflow /var/lib/mlflow
USER mlflow
WORKDIR /home/mlflow

EXPOSE 5000
ENTRYPOINT ["mlflow", "server"]
