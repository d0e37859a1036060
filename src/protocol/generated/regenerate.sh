#!/bin/sh
# Makes autonat_v2.rs from autonat_v2.proto. Needs pb-rs 0.10.0:
#
#     cargo install pb-rs --version 0.10.0 --locked
#
# With --check it changes nothing and fails if autonat_v2.rs is not what the .proto gives.
set -eu
cd "$(dirname "$0")"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

cp autonat_v2.proto "$out"
(cd "$out" && pb-rs autonat_v2.proto)

if [ "${1-}" = --check ]; then
    diff -u autonat_v2.rs "$out/autonat_v2.rs"
else
    cp "$out/autonat_v2.rs" autonat_v2.rs
fi
