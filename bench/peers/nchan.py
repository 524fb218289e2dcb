"""Nchan: a module of nginx. It takes events by HTTP, so its cost includes receiving the requests; Redis has no part."""

import re
import shutil
import subprocess
from pathlib import Path

from bench.intake import Intake
from bench.peers.peer import Peer
from bench.servers import LOOPBACK, Kind
from bench.toolchain import BUILD

CONFIGURATION = """
load_module {modules}/ngx_nchan_module.so;
daemon off;
master_process off;  # one process, so that its CPU time is all there is
pid {build}/nchan.pid;
error_log stderr warn;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {build}/nchan-bodies;
    server {{
        listen {address}:{port} backlog=4096;
        location = /readyz {{ return 200; }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
        }}
        location ~ ^/pub/(.+)$ {{
            nchan_publisher http;
            nchan_channel_id $1;
            nchan_message_buffer_length {buffer};
        }}
    }}
}}
"""
BUFFER_LENGTH = 10  # its default


def _post(project: int, event: bytes) -> bytes:
    return b"POST /pub/bench-%d HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b" % (project, len(event), event)


def _heard(answers: bytes) -> int:
    """201: somebody is subscribed; 202: nobody."""
    return answers.count(b"HTTP/1.1 201 ")


def _nginx() -> tuple[str, str, Path] | None:
    """Its program, its version, and the folder of its modules."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    version, modules = re.search(r"nginx/(\S+)", said), re.search(r"--modules-path=(\S+)", said)
    if not version or not modules or not (Path(modules[1]) / "ngx_nchan_module.so").exists():
        return None
    return program, version[1], Path(modules[1])


def _prepare() -> str | None:
    nginx = _nginx()
    if nginx is None:
        return None
    # The module does not tell its version, so ask the package.
    command = ["dpkg-query", "--showformat=${Version}", "--show", "libnginx-mod-nchan"]
    query = shutil.which(command[0])
    package = (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout if query else "unknown version"
    )
    return f"{package.partition('+')[0].partition(':')[2] or package}, nginx {nginx[1]}"


def _command(port: int, _: int) -> list[str]:
    nginx = _nginx()
    assert nginx is not None
    program, _version, modules = nginx
    configuration = BUILD / "nchan.conf"
    configuration.write_text(
        CONFIGURATION.format(modules=modules, build=BUILD, address=LOOPBACK, port=port, buffer=BUFFER_LENGTH)
    )
    return [program, "-c", str(configuration), "-p", str(BUILD)]


PEER = Peer(
    name="Nchan",
    prepare=_prepare,
    install="apt install nginx libnginx-mod-nchan",
    kinds=(
        Kind(
            "nchan", _command, dialect="nchan",
            intake=Intake(_post, answer=b"HTTP/1.1 ", heard=_heard, is_server=True),
        ),
    ),
    settings={"nchan": f"memory only, one process, nchan_message_buffer_length {BUFFER_LENGTH}"},
)  # fmt: skip
