"""Why a call got no answer that can be read: which host, and what happened on the way."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai

from penstock.network import CLOSED, Failure, address, cause_of, chain

PORTS = {"http": 80, "https": 443}


def place_of(base_url: str) -> str:
    """Host and port of the API, and of the proxy that the environment puts before it; never user or password."""
    url = urlsplit(base_url)
    host = url.hostname or base_url
    place = address(host, url.port or PORTS.get(url.scheme, PORTS["https"]))
    proxies = getproxies()
    proxy = urlsplit(proxies.get(url.scheme) or proxies.get("all") or "")
    if proxy.hostname is None or proxy_bypass(host):
        return place
    return f"{place} through the proxy {address(proxy.hostname, proxy.port or PORTS.get(proxy.scheme, PORTS['http']))}"


def reason_of(error: Exception) -> str:
    """What happened, without the words of a client that may quote a header."""
    cause = cause_of(error)
    if cause.failure is not Failure.OTHER:
        return cause.text
    for each in chain(error):
        if isinstance(each, httpx2.RemoteProtocolError | httpx2.NetworkError):
            system = each.__cause__ or each.__context__
            return cause.text if isinstance(each, httpx2.ConnectError) and system else CLOSED.text
        if isinstance(each, httpx2.ProxyError):
            return f"the proxy refuses the connection: {str(each)[:100]}"
        if isinstance(each, httpx2.HTTPError):
            return f"the request cannot be sent ({type(each).__name__})"
    if isinstance(error, openai.OpenAIError):
        return f"the call failed ({type(error).__name__})"
    return "the answer is no JSON"
