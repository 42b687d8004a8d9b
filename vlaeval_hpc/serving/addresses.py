"""By which addresses other nodes may reach a server on this one."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

SIOCGIFADDR = 0x8915  # netdevice(7)


def addresses(host: str) -> list[str]:
    """Addresses by which a server bound to `host` may be reached, the likeliest first."""
    if host not in ("", "0.0.0.0", "::"):
        return [host]
    found: list[str] = []
    with contextlib.suppress(OSError):
        for info in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            found.append(str(info[4][0]))
    with contextlib.suppress(OSError):
        # No packet is sent: the kernel only chooses the interface that leads outwards.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            found.append(str(probe.getsockname()[0]))
    found += interfaces()
    # Loopback last: from another node it is that node itself; the nonce tells.
    ordered = [a for a in found if not a.startswith("127.") and a != "::1"] + ["127.0.0.1"]
    return [socket.gethostname(), *dict.fromkeys(ordered)] if len(ordered) > 1 else ["127.0.0.1"]


def interfaces() -> list[str]:
    """The IPv4 address of each interface: a node may have one for the cluster's network and one for InfiniBand."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it is down, or has none
                answer = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found


def url(address: str, port: int) -> str:
    """The WebSocket URL of an address, of IPv6 too."""
    return f"ws://[{address}]:{port}" if ":" in address else f"ws://{address}:{port}"
