#!/bin/sh
# Fills in bootstrap.yaml, beside this file, from the environment, and becomes Envoy. What `wye up` does in Python.
#
#   WYE_CONTROL_PLANES       where control planes serve Envoys: unix:/path or host:port, separated by commas …
#   WYE_XDS_ADDRESS          … or where the only one does
#   WYE_ENVOY_ADMIN_ADDRESS  where Envoy's admin interface listens: unix:/path or host:port
#   WYE_NODE_ID              what this Envoy is called; the host's name by default
#   WYE_ENVOY_CONCURRENCY    worker threads; one per core by default
set -eu

# `unix:/path` or `host:port` as Envoy's core.v3.Address, with further fields of a pipe in $2.
address() {
  case $1 in
    unix:*) printf '{"pipe": {"path": "%s"%s}}' "${1#unix:}" "${2:-}" ;;
    *) printf '{"socket_address": {"address": "%s", "port_value": %s}}' "${1%:*}" "${1##*:}" ;;
  esac
}

WYE_NODE_ID=${WYE_NODE_ID:-$(hostname)}
WYE_ADMIN_ADDRESS=$(address "$WYE_ENVOY_ADMIN_ADDRESS" ', "mode": 384')
WYE_XDS_CLUSTER_TYPE=STATIC
WYE_XDS_ENDPOINTS=
for each in $(echo "${WYE_CONTROL_PLANES:-$WYE_XDS_ADDRESS}" | tr , ' '); do
  case $each in
    unix:* | *:*:*) ;;
    *[!0-9.]*:*) WYE_XDS_CLUSTER_TYPE=STRICT_DNS ;; # a name, which is to be resolved
  esac
  WYE_XDS_ENDPOINTS="$WYE_XDS_ENDPOINTS{\"endpoint\": {\"address\": $(address "$each")}}, "
done
WYE_XDS_ENDPOINTS="[${WYE_XDS_ENDPOINTS%, }]"

# The shell fills it in as it does a here-document; comments go, and of its other signs none means anything.
bootstrap=$(eval "cat <<END
$(sed -e '/^ *#/d' -e 's/[\\`]/\\&/g' -e 's/\$(/\\$(/g' "$(dirname "$0")/bootstrap.yaml")
END")

# Envoy's number 0 would be one thread; here as in `wye up` it is one per core.
[ "${WYE_ENVOY_CONCURRENCY:-0}" = 0 ] || set -- --concurrency "$WYE_ENVOY_CONCURRENCY" "$@"
exec "${ENVOY:-envoy}" --config-yaml "$bootstrap" --log-level warning --drain-time-s 5 --disable-hot-restart \
  --file-flush-interval-msec 1000 "$@"
