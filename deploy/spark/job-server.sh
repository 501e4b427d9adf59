#!/usr/bin/env bash
# Starts Beam's job server as a driver of a Spark cluster, by spark-submit: each job that is sent to
# it becomes an application of that cluster. It serves until it is stopped.
#
#   SPARK_HOME=/opt/spark deploy/spark/job-server.sh spark://master:7077 [--conf NAME=VALUE …]
#
# On every node that runs executors, `vecferry-worker` must be on the PATH of the Spark worker.
# JOB_HOST is the address of this machine by which clients reach it, JOB_PORT and ARTIFACT_PORT its
# ports; ARTIFACTS is a folder that executors see, too, where jobs bring packages of their own.
set -euo pipefail

SPARK_VERSION=3.5.0
BEAM_VERSION=2.70.0
JOB_SERVICE_VERSION=2.65.0 # the newest of this artifact; it was run with that runner

if [[ $# -lt 1 ]]; then
  echo "usage: $0 spark://MASTER:7077 [--conf NAME=VALUE …]" >&2
  exit 2
fi
master=$1
shift
: "${SPARK_HOME:?must name an installation of Spark ${SPARK_VERSION} for Scala 2.12}"
host=${JOB_HOST:-127.0.0.1}
port=${JOB_PORT:-8099}
artifact_port=${ARTIFACT_PORT:-8098}
artifacts=${ARTIFACTS:-/tmp/beam-artifact-staging}

packages="org.apache.beam:beam-runners-spark-3:${BEAM_VERSION}"
packages+=",org.apache.beam:beam-runners-java-job-service:${JOB_SERVICE_VERSION}"

exec "${SPARK_HOME}/bin/spark-submit" \
  --master "${master}" \
  --deploy-mode client \
  --packages "${packages}" \
  "$@" \
  --class org.apache.beam.runners.spark.SparkJobServerDriver \
  spark-internal \
  --job-host="${host}" \
  --job-port="${port}" \
  --artifact-port="${artifact_port}" \
  --expansion-port=0 \
  --artifacts-dir="${artifacts}" \
  --spark-master-url="${master}"
