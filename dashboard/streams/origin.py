"""The check of the page that opens a stream with the session of its browser. Pure."""

from collections.abc import Collection, Mapping


def is_same_site(headers: Mapping[bytes, bytes], scheme: str, trusted: Collection[str], behind_proxy: bool) -> bool:
    """Return whether a page of this site, or a program without an Origin header, opened the stream.

    Browsers send the cookies with WebSockets of any page and leave the check to the server. ALLOWED_HOSTS may be `*`,
    so the Origin has to name the scheme, the host and the port of the request, as in Django's check of forms: a page of
    the same host without TLS may have been replaced on its way.
    """
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if not origin or origin in (entry.lower() for entry in trusted):
        return True
    if behind_proxy:
        scheme = headers.get(b"x-forwarded-proto", scheme.encode()).decode("latin-1").lower()
    page_scheme = "https" if scheme in ("https", "wss") else "http"
    return origin == f"{page_scheme}://{headers.get(b'host', b'').decode('latin-1').lower()}"
