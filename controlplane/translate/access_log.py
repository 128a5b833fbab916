"""The access log: one JSON object a line for each request, with where its time went.

Durations are in microseconds, between moments that Envoy notes anyway. What the replica tells of its own phases comes as it is
(`server_timing`, milliseconds). No header that may hold a secret is written.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import SubstitutionFormatString
from envoy_data_plane.envoy.extensions.access_loggers.file.v3 import FileAccessLog
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog

from controlplane.domain import USER_HEADER
from controlplane.translate.gateway import STDOUT, Gateway
from controlplane.translate.messages import pack, struct

#: docs/observability.md says what each is. A field that is one command keeps the command's type: numbers are numbers.
FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": "%TRACE_ID%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "user": f"%REQ({USER_HEADER})%",
    "user_agent": "%REQ(USER-AGENT)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "served": "%UPSTREAM_CLUSTER%",
    "served_model": "%RESP(SERVED-MODEL-NAME)%",
    "replica": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "total_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "receive_us": "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
    "forward_us": "%COMMON_DURATION(DS_RX_END:US_TX_END:us)%",
    "replica_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    "answer_us": "%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)%",
    "server_timing": "%RESP(SERVER-TIMING)%",
}


def loggers(gateway: Gateway) -> list[AccessLog]:
    """Where the listener writes its access log; nowhere when it is switched off."""
    if not gateway.access_log:
        return []
    line = SubstitutionFormatString(json_format=struct(dict(FIELDS)), omit_empty_values=False)
    if gateway.access_log == STDOUT:
        return [AccessLog(name="envoy.access_loggers.stdout", typed_config=pack(StdoutAccessLog(log_format=line)))]
    written = FileAccessLog(path=gateway.access_log, log_format=line)
    return [AccessLog(name="envoy.access_loggers.file", typed_config=pack(written))]
