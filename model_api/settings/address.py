"""An address to listen on."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def _address(value: str) -> str:
    """Without the brackets that an IPv6 address may have."""
    address = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if ":" in address:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            raise ValueError("must be an address or a host name, without a port (that is PORT)") from None
    elif not _HOST_NAME.fullmatch(address):
        raise ValueError("must be an address or a host name")
    return address


Address = Annotated[str, AfterValidator(_address)]
