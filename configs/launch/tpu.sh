#!/bin/bash
# One command: configs/launch/tpu.sh NAME ZONE --plugin imf --data images --data.path DIR --run DIR
#
# NAME is a TPU pod slice that is there. The script copies the project to every host, installs it and
# starts the same command on all of them; JAX finds the pod by itself. --run must lie where every
# host sees it: a mounted bucket or NFS. Call it again to go on after a preemption.
set -euo pipefail
name=${1:?name of the TPU}; zone=${2:?zone}; shift 2
flags=$(printf ' %q' "$@")
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD

gcloud compute tpus tpu-vm scp "$archive" "$name:portolan.tar.gz" --zone="$zone" --worker=all
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  set -e
  mkdir -p portolan && tar -xzf portolan.tar.gz -C portolan && cd portolan
  test -x .venv/bin/python || python3.11 -m venv .venv
  .venv/bin/python -m pip install -q -c constraints.txt -e '.[tpu]'
  exec .venv/bin/python -m apps.train --distributed --mesh.fsdp 16 $flags"
